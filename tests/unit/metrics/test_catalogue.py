"""Names and units follow Prometheus' conventions, and histograms are added up rightly."""

from __future__ import annotations

import re

from b24offline.counters import BOUNDS_SECONDS, histogram
from b24offline.metrics import DEFINITIONS, GROUPS


def test_every_name_says_its_unit_and_its_kind() -> None:
    assert len(DEFINITIONS) == sum(len(group) for group in GROUPS.values()) > 40
    for metric in DEFINITIONS.values():
        assert re.fullmatch(r"b24offline_[a-z_]+", metric.full_name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric
        assert not re.search(r"_(ms|millis|minutes|hours|kb|mb|percent)(_|$)", metric.name), metric
        assert metric.help.endswith("."), metric


def test_a_histogram_is_cumulative_and_ends_with_everything() -> None:
    counters = {"seconds:x:100": 2, "seconds:x:60000": 3, "seconds:x:inf": 1, "seconds:x:sum": 20_000_500}
    buckets, total = histogram(counters, "x")
    assert [bound for bound, _ in buckets] == [*map(str, BOUNDS_SECONDS), "+Inf"]
    found = dict(buckets)
    assert (found["0.1"], found["30.0"], found["60.0"], found["14400.0"], found["+Inf"]) == (2, 2, 5, 5, 6)
    assert total == 20_000.5


def test_a_histogram_of_nothing_has_all_its_buckets() -> None:
    buckets, total = histogram({}, "x")
    assert {count for _, count in buckets} == {0}
    assert total == 0
