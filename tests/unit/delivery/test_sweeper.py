"""Which portals a sweep visits, and which looks it asks for there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.config import Timers
from b24offline.delivery.portal_rounds import QUIET_VISITS, due_visits
from b24offline.delivery.sweeper import is_due, is_quiet
from b24offline.ledger import Glance, Look

TIMERS = Timers()
NOW = 10_000_000_000
REDRIVE = 100.0
LOOKED: dict[Look, int] = {"adopt": NOW, "redrive": NOW}
QUIET = Glance(NOW, looked_ms=NOW, visited_ms=NOW, asked_ms=LOOKED)
NEVER = Glance(NOW)
WAITING = [
    {"open_work": True},
    {"jobs": True},
    {"unanswered": True},
    {"orphans": True},
    {"failed": True},
    {"lost_ms": NOW - 1},
    {"looked_ms": NOW - 1},
    {"seen": 1},
]


def after(glance: Glance, seconds: float) -> Glance:
    return replace(glance, now_ms=glance.now_ms + round(seconds * 1000))


@pytest.mark.parametrize("waits", WAITING, ids=lambda waits: next(iter(waits)))
def test_where_anything_waits_each_sweep_visits(waits: dict[str, bool | int]) -> None:
    assert is_quiet(QUIET, TIMERS)
    assert due_visits({"acme": replace(QUIET, **waits), "zeta": QUIET}, TIMERS) == {"acme"}


def test_a_quiet_portal_is_visited_at_the_interval_of_idle_looks() -> None:
    assert due_visits({"acme": after(QUIET, TIMERS.idle_look_seconds - 1)}, TIMERS) == set()
    assert due_visits({"acme": after(QUIET, TIMERS.idle_look_seconds)}, TIMERS) == {"acme"}
    assert due_visits({"acme": NEVER}, TIMERS) == {"acme"}


def test_where_records_came_lately_a_quiet_portal_is_visited_sooner() -> None:
    active = replace(QUIET, active_ms=NOW)
    assert due_visits({"acme": after(active, TIMERS.sighting_seconds - 1)}, TIMERS) == set()
    assert due_visits({"acme": after(active, TIMERS.sighting_seconds)}, TIMERS) == {"acme"}
    later = replace(QUIET, active_ms=NOW - round(TIMERS.idle_look_seconds * 1000))
    assert due_visits({"acme": after(later, TIMERS.sighting_seconds)}, TIMERS) == set()


def test_a_loss_is_forgotten_after_the_interval_of_idle_looks() -> None:
    lost = replace(QUIET, lost_ms=NOW)
    assert not is_quiet(after(lost, TIMERS.idle_look_seconds - 1), TIMERS)
    assert is_quiet(after(lost, TIMERS.idle_look_seconds), TIMERS)


def test_visits_of_thousands_of_quiet_portals_are_spread() -> None:
    portals = {f"p{number}": replace(NEVER, visited_ms=number) for number in range(6_000)}
    first = due_visits(portals, TIMERS)
    assert first == {f"p{number}" for number in range(200)}, "twice a sweep's share, those of longest ago"
    assert len(due_visits(dict(list(portals.items())[:QUIET_VISITS]), TIMERS)) == QUIET_VISITS


@given(st.lists(st.booleans(), min_size=1, max_size=400), st.integers(1, 40))
def test_every_quiet_portal_has_its_turn_in_time(new: list[bool], every: int) -> None:
    """Whatever of them is new: none waits longer than an interval and the half in which it is spread."""
    timers = replace(TIMERS, sweep_seconds=15.0 * every)
    seen = {f"p{number}": NEVER if fresh else QUIET for number, fresh in enumerate(new)}
    left = set(seen)
    for sweep in range(1 + int(1.5 * timers.idle_look_seconds / timers.sweep_seconds)):
        left -= due_visits({name: after(seen[name], sweep * timers.sweep_seconds) for name in left}, timers)
    assert left == set()


@pytest.mark.parametrize(
    ("look", "changes", "seconds"),
    [
        ("adopt", {}, TIMERS.idle_look_seconds),
        ("redrive", {}, TIMERS.idle_look_seconds),
        ("adopt", {"failed": True, "open_work": True, "jobs": True}, TIMERS.idle_look_seconds),
        ("redrive", {"failed": True}, REDRIVE),
        ("adopt", {"active_ms": NOW}, TIMERS.sighting_seconds),
        ("redrive", {"active_ms": NOW}, TIMERS.sighting_seconds),
        ("adopt", {"orphans": True}, TIMERS.sighting_seconds / 3),
        ("adopt", {"looked_ms": NOW - 1}, TIMERS.sighting_seconds / 3),
        ("adopt", {"lost_ms": NOW}, TIMERS.sighting_seconds / 3),
        ("adopt", {"unanswered": True, "orphans": True}, TIMERS.sweep_seconds),
        ("redrive", {"unanswered": True, "orphans": True}, TIMERS.idle_look_seconds),
    ],
)
def test_a_look_comes_as_often_as_something_may_be_found(
    look: Look, changes: dict[str, bool | int], seconds: float
) -> None:
    glance = replace(QUIET, **changes)
    assert not is_due(look, after(glance, seconds - 1), TIMERS, REDRIVE)
    assert is_due(look, after(glance, seconds), TIMERS, REDRIVE)
    assert is_due(look, NEVER, TIMERS, REDRIVE), "one that was never asked for"
