"""The settle lease, the outcomes of a batch, and when it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.ledger import BatchKind, Ledger, SettleLease
from tests.support.core_events import (
    TIMERS,
    due_times,
    entry_of,
    event_of,
    ledger_on,
    opened,
    pass_time,
    run_of,
    run_state,
)

if TYPE_CHECKING:
    from redis import Redis


def taken(ledger: Ledger, process_id: str = "p1") -> SettleLease:
    settling = ledger.begin_settle(process_id)
    assert isinstance(settling, SettleLease)
    return settling


def test_one_settler_at_a_time(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1))
    first = taken(ledger)
    assert ledger.begin_settle("p1") == "busy"
    assert ledger.end_settle(first, (), 1) == "open"
    second = taken(ledger)
    assert second.token != first.token
    assert second.token != first.token
    assert second.events == {1: event_of(1)}


def test_an_outcome_that_comes_while_a_settle_runs_is_not_left_waiting(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1))
    settling = taken(ledger)
    assert ledger.begin_settle("p1") == "busy"
    assert ledger.end_settle(settling, (), TIMERS.settle_due_seconds) == "open"
    assert ledger.take_overdue().batches == ("p1",)
    assert ledger.end_settle(taken(ledger), (), TIMERS.settle_due_seconds) == "open"
    assert ledger.take_overdue().batches == (), "it waits until it is asked for"


def test_a_settler_that_lost_its_lease_changes_nothing(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ledger.begin_step(handed.run, 1, 0)
    ledger.succeed(handed.run, 1)
    late = taken(ledger)
    pass_time(redis, ledger, TIMERS.settle_lease_seconds + 1)
    assert ledger.end_settle(late, [1], 1) == "lost", "an expired lease still counted"
    current = taken(ledger)
    assert ledger.end_settle(late, [1], 1) == "lost", "a replaced lease still counted"
    assert list(ledger.events("p1")) == [1]
    assert ledger.end_settle(current, [1], 1) == "closed"
    assert ledger.end_settle(current, [1], 1) == "lost"


def test_a_batch_closes_only_when_no_record_is_left(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", *(entry_of(i) for i in (1, 2)))
    assert ledger.end_settle(taken(ledger), [2], 33) == "open"
    assert list(ledger.events("p1")) == [1]
    assert run_state(redis, ledger, run_of(2)) is None
    assert 30 < due_times(redis, ledger)["batch:p1"] <= 33
    assert ledger.end_settle(taken(ledger), [1, 2, 99], 1) == "closed"
    assert ledger.begin_settle("p1") == "gone"
    assert ledger.counters()["batches_closed"] == 1


def test_the_outcome_of_a_record_is_that_of_all_its_runs(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1, None, "a", "b"))

    def outcome() -> str:
        settling = taken(ledger)
        ledger.end_settle(settling, (), 1)
        return settling.outcomes[1]

    assert outcome() == "unfinished"
    ledger.fail(run_of(1, "a"), 1, "x", backoff_seconds=1)
    assert outcome() == "unfinished"
    ledger.succeed(run_of(1, "b"), 1)
    assert outcome() == "failed"


def test_a_shared_run_lives_until_its_last_batch_needs_it_no_more(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1))
    opened(ledger, "p2", entry_of(1))
    ledger.succeed(run_of(1), 1)
    ledger.end_settle(taken(ledger, "p2"), [1], 1)
    assert taken(ledger, "p1").outcomes == {1: "succeeded"}
    assert ledger.event_of(run_of(1)) == (event_of(1), "default")


def test_a_damaged_batch_can_be_opened_again(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1), entry_of(2))
    redis.delete(f"{ledger.stem}:run:{run_of(1)}")
    assert ledger.begin_settle("p1") == "damaged"
    ledger.forget("p1")
    assert ledger.open_batches() == {}
    assert {one.run for one in opened(ledger, "p1", entry_of(1), entry_of(2), kind=BatchKind.ADOPTED)} == {
        run_of(1),
        run_of(2),
    }
    assert ledger.kind("p1") is BatchKind.ADOPTED


def test_a_record_taken_up_before_its_first_batch_has_closed_is_retrying(redis: Redis) -> None:
    """Its first batch has the event as it was before the nack: a run that is not known as retrying would fail."""
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    assert ledger.fail(handed.run, handed.attempt, "Boom", backoff_seconds=1).recorded
    opened(ledger, "p2", entry_of(1, nacked=True), kind=BatchKind.RETRYING)
    pass_time(redis, ledger, 2)
    (again,) = ledger.take_overdue().runs
    reply = ledger.event_of(again.run)
    assert reply is not None
    assert (reply[0].retrying, ledger.kind("p2")) == (True, BatchKind.RETRYING)
    begun = ledger.begin_step(again.run, again.attempt, 0)
    assert begun is not None
    assert begun.event.retrying


@pytest.mark.parametrize("how", ["cleared", "reported", "ledger lost", "damaged"])
def test_no_attempt_number_comes_back(redis: Redis, how: str) -> None:
    """Also of a record that was cleared: an overlapping call may have moved it before, and it is adopted."""
    ledger = ledger_on(redis, numbered=False)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ledger.begin_step(handed.run, handed.attempt, 0)
    if how == "ledger lost":
        redis.flushall()
    elif how == "damaged":
        ledger.forget("p1")
    else:
        if how == "cleared":
            ledger.succeed(handed.run, handed.attempt)
        else:
            ledger.fail(handed.run, handed.attempt, "Boom", backoff_seconds=0.001)
        ledger.end_settle(taken(ledger), [1], 1)
        pass_time(redis, ledger, 1)
    assert list(redis.scan_iter(f"{ledger.stem}:run:*")) == []
    (again,) = opened(ledger, "p2", entry_of(1, nacked=how == "reported"), kind=BatchKind.ADOPTED)
    assert abs(again.attempt - handed.attempt) > 1_000
    assert again.attempt < 1 << 53, "a script counts exactly"
    ledger.begin_step(again.run, again.attempt, 0)
    assert not ledger.succeed(handed.run, handed.attempt).recorded, "a handler of before recorded its success"
    assert ledger.succeed(again.run, again.attempt).recorded
