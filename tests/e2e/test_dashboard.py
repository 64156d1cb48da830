"""Every query of the dashboard has data in a real Prometheus that scrapes a deployment under load with faults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from b24offline.metrics import DEFINITIONS
from tests.support.busy import Watched, busy
from tests.support.prometheus import binary
from tools.dashboard import PATH, documents, panels
from tools.generated import outdated

CHECKOUT = Path(__file__).resolve().parents[2]
ALL_WELL = {"Late polls"}
"""Graphs whose line may stay at 0, whatever goes wrong for a minute."""


def test_the_dashboard_is_up_to_date() -> None:
    assert outdated(CHECKOUT, documents()) == []
    assert PATH in documents()


def test_every_metric_that_is_asked_for_exists() -> None:
    names = {metric.full_name for metric in DEFINITIONS.values()}
    for panel in panels():
        for expression in panel.queries.values():
            asked = re.findall(r"b24offline_\w+", expression)
            assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} - names == set(), panel.title


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory):
    binary("prometheus")
    with busy(tmp_path_factory.mktemp("busy")) as watched:
        yield watched


def test_no_panel_is_without_data(seen: Watched) -> None:
    empty = [panel.title for panel in panels() if len(seen.panel(panel)) < len(panel.queries)]
    assert empty == []
    flat = {panel.title for panel in panels() if not any(value for of in seen.panel(panel).values() for _, value in of)}
    assert flat - ALL_WELL == set()


def test_a_query_of_nothing_is_noticed(seen: Watched) -> None:
    assert seen.series("b24offline_no_such_metric") == []
