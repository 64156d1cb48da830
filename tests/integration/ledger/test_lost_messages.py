"""A message that was lost is noticed where the queue is seen to be empty, or to move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.ledger import Ledger, RunRef
from tests.support.core_events import TIMERS, entry_of, ledger_on, opened, pass_time, ran

if TYPE_CHECKING:
    from redis import Redis

LOST_SECONDS = 3 * TIMERS.sweep_seconds + 1


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return ledger_on(redis)


def swept(ledger: Ledger, *, idle: bool) -> list[str]:
    ledger.hasten_runs(idle=idle)
    return [one.run for one in ledger.take_overdue().runs]


def test_with_no_message_waiting_a_run_is_handed_out_again(redis: Redis, ledger: Ledger) -> None:
    (lost,) = opened(ledger, "p1", entry_of(1))
    assert swept(ledger, idle=True) == []
    pass_time(redis, ledger, LOST_SECONDS)
    assert swept(ledger, idle=False) == [], "it may wait in a backlog"
    assert swept(ledger, idle=True) == [lost.run]
    pass_time(redis, ledger, LOST_SECONDS)
    assert swept(ledger, idle=True) == [], "the wait grows with the attempts"
    pass_time(redis, ledger, LOST_SECONDS)
    assert swept(ledger, idle=True) == [lost.run]


def test_so_is_one_whose_next_step_was_lost(redis: Redis, ledger: Ledger) -> None:
    (handed,) = opened(ledger, "p1", entry_of(1))
    ran(ledger, handed)
    pass_time(redis, ledger, TIMERS.lease_seconds - 1)
    assert ledger.pass_on(handed.run, handed.attempt, 0)
    assert swept(ledger, idle=True) == []
    pass_time(redis, ledger, LOST_SECONDS)
    assert swept(ledger, idle=True) == [handed.run]


def test_a_run_that_works_or_waits_is_left_alone(redis: Redis, ledger: Ledger) -> None:
    working, waiting = opened(ledger, "p1", entry_of(1), entry_of(2))
    ran(ledger, waiting)
    assert ledger.retry_step(waiting.run, waiting.attempt, 60, counted=True, reason="x")
    pass_time(redis, ledger, LOST_SECONDS)
    ran(ledger, working)
    assert ledger.hasten_runs(idle=True) == 0


def test_one_that_was_overtaken_in_its_lane_is_handed_out_again(redis: Redis, ledger: Ledger) -> None:
    (lost,) = opened(ledger, "p1", entry_of(1))
    pass_time(redis, ledger, 1)
    (other_lane,) = opened(ledger, "p2", entry_of(2), lane="other")
    ran(ledger, other_lane)
    pass_time(redis, ledger, LOST_SECONDS)
    assert ledger.hasten_runs(idle=False) == 0, "another lane has another queue"
    later, behind = opened(ledger, "p3", entry_of(3)) + opened(ledger, "p4", entry_of(4))
    ran(ledger, later)
    assert swept(ledger, idle=False) == [lost.run]
    assert behind.run not in swept(ledger, idle=False)


def test_one_of_about_the_same_time_overtakes_none(redis: Redis, ledger: Ledger) -> None:
    """Each worker sends what it hands out by itself: one may be slower."""
    opened(ledger, "p1", entry_of(1))
    pass_time(redis, ledger, TIMERS.sweep_seconds - 1)
    (faster,) = opened(ledger, "p2", entry_of(2))
    ran(ledger, faster)
    pass_time(redis, ledger, LOST_SECONDS)
    assert ledger.hasten_runs(idle=False) == 0


def test_a_late_message_that_begins_overtakes_none(redis: Redis, ledger: Ledger) -> None:
    """Its run was handed out again, behind the others, and began by its first message."""
    (first,) = opened(ledger, "p1", entry_of(1))
    pass_time(redis, ledger, 1)
    (second,) = opened(ledger, "p2", entry_of(2))
    pass_time(redis, ledger, LOST_SECONDS)
    redis.zadd(f"{ledger.stem}:due", {f"run:{first.run}": 1})
    assert [one.run for one in ledger.take_overdue().runs] == [first.run]
    assert ledger.begin_step(first.run, first.attempt, 0) is not None
    assert isinstance(second, RunRef)
    assert swept(ledger, idle=False) == []
