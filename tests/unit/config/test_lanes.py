"""Lanes: their values, and which is polled next."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.config import Config, Lane, choose, next_batch_size
from b24offline.errors import ConfigError

NAMES = ("a", "b", "c")


def lane(name: str, priority: int = 0) -> Lane:
    return Lane(name=name, priority=priority)


def test_without_lanes_there_is_the_default_one() -> None:
    config = Config.load({"B24_FILTER": '{">ID": 5}', "B24_BATCH_SIZE": "7", "B24_ORDER": "TIMESTAMP_X DESC"})
    [(name, only)] = config.all_lanes.items()
    assert name == only.name == "default"
    assert (dict(only.filter), only.batch_size, dict(only.order)) == ({">ID": 5}, 7, {"TIMESTAMP_X": "DESC"})


def test_further_lanes_follow_the_default_one() -> None:
    deals = {
        "name": "deals",
        "filter": {"=EVENT_NAME": "ONCRMDEALUPDATE"},
        "batch_size": 200,
        "queue": "b24offline.deals",
    }
    config = Config.load({"B24_LANES": json.dumps([deals])})
    assert list(config.all_lanes) == ["default", "deals"]
    assert config.all_lanes["deals"].batch_size == 200
    assert config.all_lanes["deals"].queue == "b24offline.deals"


@pytest.mark.parametrize(
    "value",
    [
        "deals",
        "{}",
        '[{"batch_size": 5}]',
        '[{"name": "default"}]',
        '[{"name": "a"}, {"name": "a"}]',
        '[{"name": "a", "batch_sise": 5}]',
        '[{"name": "a", "batch_size": 0}]',
        '[{"name": "a", "filter": {"!ID": 5}}]',
        '[{"name": "a", "filter": {"=EVENT_NAME": ["X"]}}]',
        '[{"name": "a", "order": "NAME ASC"}]',
        '[{"name": "A b"}]',
        '[{"name": ["a"]}]',
    ],
)
def test_wrong_lanes_stop_the_start_and_name_the_variable(value: str) -> None:
    with pytest.raises(ConfigError, match="B24_LANES"):
        Config.load({"B24_LANES": value})


@given(st.dictionaries(st.sampled_from(NAMES), st.integers(-60_000, -1)))
def test_a_lane_that_is_not_due_is_never_chosen(waited: dict[str, int]) -> None:
    assert choose({name: lane(name, 60) for name in NAMES}, waited) is None


@given(
    st.dictionaries(st.sampled_from(NAMES), st.tuples(st.integers(0, 10**7), st.integers(0, 60)), min_size=1),
)
def test_the_longest_wait_goes_first_and_priority_is_worth_seconds(rows: dict[str, tuple[int, int]]) -> None:
    chosen = choose({name: lane(name, p) for name, (_, p) in rows.items()}, {n: w for n, (w, _) in rows.items()})
    assert chosen is not None
    best = max(waited + priority * 1000 for waited, priority in rows.values())
    assert rows[chosen][0] + rows[chosen][1] * 1000 == best


def test_a_flood_of_the_highest_priority_does_not_starve_the_others() -> None:
    lanes = {"flood": lane("flood", 60), "calm": lane("calm", 0)}
    due = {"flood": 0, "calm": 0}
    turns = []
    for now in range(0, 200_000, 500):
        name = choose(lanes, {lane_name: now - at for lane_name, at in due.items()})
        assert name is not None
        turns.append(name)
        due[name] = now if name == "flood" else now + 1000
    assert turns.count("calm") >= 2
    longest = max(len(run) for run in "".join("f" if name == "flood" else " " for name in turns).split())
    assert longest <= 125, "a lane waited longer than the priority is worth"


@pytest.mark.parametrize(
    ("variables", "bounds"),
    [
        ({}, (50, 500)),
        ({"B24_BATCH_SIZE": "20"}, (20, 20)),
        ({"B24_BATCH_SIZE_MAX": "200"}, (50, 200)),
        ({"B24_BATCH_SIZE": "20", "B24_BATCH_SIZE_MAX": "100"}, (20, 100)),
        ({"B24_BATCH_SIZE": "20", "B24_BATCH_SIZE_MAX": "10"}, (20, 20)),
    ],
)
def test_a_batch_size_that_is_given_stays_unless_a_larger_one_is_given_too(
    variables: dict[str, str], bounds: tuple[int, int]
) -> None:
    default = Config.load(variables).all_lanes["default"]
    assert (default.batch_size, default.largest) == bounds


def test_a_batch_grows_while_it_is_full_and_shrinks_with_what_arrives() -> None:
    grows = Lane(name="any")
    sizes = [next_batch_size(grows, received) for received in (0, 10, 50, 100, 200, 400, 500, 300, 90, 3)]
    assert sizes == [50, 50, 100, 200, 400, 500, 500, 500, 180, 50]
    assert next_batch_size(Lane(name="any", batch_size=20), 20) == 20
