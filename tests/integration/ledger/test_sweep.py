"""The sweep: what is overdue is taken once, and what lost a key neither blocks nor is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.ledger import BatchKind, Overdue, RunRef, SettleLease, glances
from tests.support.core_events import (
    PORTAL,
    PREFIX,
    TIMERS,
    due_times,
    entry_of,
    ledger_on,
    opened,
    pass_time,
    ran,
    run_of,
    run_state,
)

if TYPE_CHECKING:
    from redis import Redis

LONG = TIMERS.run_queue_seconds + TIMERS.settle_due_seconds


def test_nothing_is_overdue_before_its_time(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1))
    assert ledger.take_overdue() == Overdue((), ())
    pass_time(redis, ledger, TIMERS.settle_due_seconds - 5)
    assert ledger.take_overdue() == Overdue((), ())


def test_an_undispatched_batch_is_dispatched_by_the_sweep_once(redis: Redis) -> None:
    ledger = ledger_on(redis)
    ledger.open("p1", [entry_of(1), entry_of(2, "1")], kind=BatchKind.POLLED)
    pass_time(redis, ledger, TIMERS.dispatch_due_seconds + 1)
    assert ledger.take_overdue().runs == (RunRef(run_of(1), 1),)
    assert ledger.take_overdue().runs == ()
    assert ledger.start("p1") == (), "dispatch came late and started it twice"


def test_a_batch_is_settled_by_the_sweep_once_in_its_time(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1))
    pass_time(redis, ledger, TIMERS.settle_due_seconds + 1)
    assert ledger.take_overdue().batches == ("p1",)
    assert ledger.take_overdue().batches == ()
    pass_time(redis, ledger, TIMERS.settle_due_seconds + 1)
    assert ledger.take_overdue().batches == ("p1",)


def test_an_expired_lease_counts_as_a_crash_until_the_budget_is_spent(redis: Redis) -> None:
    ledger = ledger_on(redis, crash_budget=2)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ran(ledger, handed)
    pass_time(redis, ledger, TIMERS.lease_seconds + 1)
    (again,) = ledger.take_overdue().runs
    assert ledger.counters()["runs_crashed"] == 1
    ran(ledger, again)
    pass_time(redis, ledger, TIMERS.lease_seconds + 1)
    assert ledger.take_overdue() == Overdue((), ("p1",))
    assert run_state(redis, ledger, handed.run) == "failed"


def test_a_run_that_fails_in_the_sweep_hands_out_the_next_exactly_once(redis: Redis) -> None:
    ledger = ledger_on(redis, crash_budget=1)
    (handed,) = opened(ledger, "p1", entry_of(1, "7"), entry_of(2, "7"))
    ran(ledger, handed)
    # the second run of the object is overdue, too, and comes later in the same sweep
    pass_time(redis, ledger, TIMERS.dispatch_due_seconds + 1)
    assert ledger.take_overdue().runs == (RunRef(run_of(2), 1),)


def test_the_limit_leaves_the_rest_for_the_next_sweep(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", *(entry_of(i) for i in range(1, 8)))
    pass_time(redis, ledger, LONG)
    taken = [ledger.take_overdue(limit=3) for _ in range(4)]
    assert sorted(len(one.runs) + len(one.batches) for one in taken) == [0, 2, 3, 3]
    assert len({run.run for one in taken for run in one.runs}) == 7


def test_a_head_that_vanished_does_not_block_its_object_queue(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1, "7"))
    opened(ledger, "p2", entry_of(2, "7"))
    redis.delete(f"{ledger.stem}:run:{run_of(1)}")
    pass_time(redis, ledger, LONG)
    assert ledger.take_overdue().runs == (RunRef(run_of(2), 1),)
    assert f"run:{run_of(1)}" not in due_times(redis, ledger)
    assert ledger.begin_settle("p1") == "damaged"


def test_a_object_queue_that_vanished_does_not_block_its_runs(redis: Redis) -> None:
    ledger = ledger_on(redis)
    ledger.open("p1", [entry_of(1)], kind=BatchKind.POLLED)
    redis.delete(ledger.object_queue(entry_of(1).event, "deal_changed"))
    assert ledger.start("p1") == ()
    pass_time(redis, ledger, LONG)
    (handed,) = ledger.take_overdue().runs
    ran(ledger, handed)
    assert ledger.succeed(handed.run, handed.attempt).settleable == ("p1",)


def test_lost_due_times_come_back_with_the_batch(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ran(ledger, handed)
    redis.delete(f"{ledger.stem}:due")
    assert ledger.take_overdue().batches == ("p1",)
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert ledger.end_settle(settling, (), 100) == "open"
    assert set(due_times(redis, ledger)) == {"batch:p1", f"run:{handed.run}"}
    assert ledger.take_overdue().runs == (RunRef(handed.run, 2),)


def test_a_run_whose_batch_vanished_does_not_block_its_object_queue(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1, "7"))
    opened(ledger, "p2", entry_of(2, "7"))
    redis.delete(f"{ledger.stem}:batch:p1", f"{ledger.stem}:batch:p1:records")
    assert ledger.begin_step(run_of(1), 1, 0) is None, "a step began without its event"
    started = set()
    for _ in range(3):
        pass_time(redis, ledger, LONG * 3)
        started |= {one.run for one in ledger.take_overdue().runs}
    assert started == {run_of(2)}
    assert run_state(redis, ledger, run_of(1)) is None
    assert "batch:p1" not in due_times(redis, ledger)


def test_lost_records_are_adopted_under_their_old_process_id(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ran(ledger, handed)
    redis.delete(f"{ledger.stem}:batch:p1:records")
    assert ledger.succeed(handed.run, handed.attempt).settleable == ("p1",)
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {}
    assert ledger.end_settle(settling, (), 1) == "closed"
    assert opened(ledger, "p1", entry_of(1), kind=BatchKind.ADOPTED) == (), "a succeeded run started again"
    again = ledger.begin_settle("p1")
    assert isinstance(again, SettleLease)
    assert again.outcomes == {1: "succeeded"}


def test_after_loss_of_everything_the_old_messages_do_nothing(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    ran(ledger, handed)
    redis.flushall()
    assert ledger.take_overdue() == Overdue((), ())
    assert ledger.begin_settle("p1") == "gone"
    assert not ledger.renew(handed.run, handed.attempt, 0)
    assert not ledger.succeed(handed.run, handed.attempt).recorded
    assert not ledger.crash(handed.run, handed.attempt, backoff_seconds=1).recorded
    assert opened(ledger, "p1", entry_of(1), kind=BatchKind.ADOPTED) == (RunRef(handed.run, 1),)


@pytest.mark.parametrize("under_way", [True, False])
@pytest.mark.parametrize(
    "lost",
    ["batch:p1", "batch:p1:records", "batches", "due", "open", "fencing", "stats", "run", "mail", "batches due"],
)
def test_whatever_key_is_lost_the_ledger_goes_on(redis: Redis, lost: str, under_way: bool) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    if under_way:
        ran(ledger, handed)
    gone = {"run": f"run:{handed.run}", "mail": "object_queue:crm_deal:1|deal_changed"}.get(lost, lost)
    redis.delete(*(f"{ledger.stem}:{key}" for key in gone.split()))
    assert glances(redis, PREFIX, [PORTAL])[PORTAL].open_work, "no sweep looks at the portal"
    for _ in range(12):
        pass_time(redis, ledger, LONG * 8)
        overdue = ledger.take_overdue()
        for run in overdue.runs:
            if ledger.begin_step(run.run, run.attempt, 0):
                ledger.succeed(run.run, run.attempt)
        for process_id in overdue.batches:
            settling = ledger.begin_settle(process_id)
            if settling == "damaged":
                ledger.forget(process_id)
            elif isinstance(settling, SettleLease):
                done = [record for record, outcome in settling.outcomes.items() if outcome == "succeeded"]
                ledger.end_settle(settling, done, 1)
    # either it was settled, or it is unknown and its process id can be adopted
    assert list(redis.scan_iter(f"{ledger.stem}:batch:*")) == [], "neither a sweep nor an adoption finds it again"
    assert ledger.open_batches() == {}
    assert not redis.exists(f"{ledger.stem}:open"), "closed batches are counted as open"
    assert due_times(redis, ledger) == {}
    again = opened(ledger, "p1", entry_of(1), kind=BatchKind.ADOPTED)
    assert [one.run for one in again] in ([handed.run], [])


def test_an_outcome_whose_successor_vanished_hands_out_nothing(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1, "7"), entry_of(2, "7"))
    redis.delete(f"{ledger.stem}:run:{run_of(2)}")
    reply = ledger.succeed(handed.run, handed.attempt)
    assert (reply.recorded, reply.next) == (True, None)
    assert run_state(redis, ledger, run_of(2)) is None


def test_an_outcome_does_not_bring_a_lost_batch_back_half(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    redis.delete(f"{ledger.stem}:batch:p1")
    assert ledger.succeed(handed.run, handed.attempt).settleable == ()
    assert ledger.open("p1", [entry_of(1)], kind=BatchKind.ADOPTED) == 0, "the remains stood in the way of adoption"
