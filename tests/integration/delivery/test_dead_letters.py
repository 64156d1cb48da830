"""Dead-lettering: the dead letter first, then the ledger; any number of times, in any order, after any loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery import run_of_dead_letter
from b24offline.errors import StoreUnavailable
from b24offline.ledger import BatchKind, PollLease, RunRef, SettleLease
from b24offline.ledger.fencing import MAX_RETRYING_RECORDS
from b24offline.ledger.ledger import MAX_HELD_ATTEMPTS
from b24offline.monitoring.health_sample import take_sample
from tests.support.core_events import (
    PIPELINE,
    PORTAL,
    TIMERS,
    due_times,
    entry_of,
    guard_on,
    ledger_on,
    opened,
    pass_time,
    ran,
    run_state,
)
from tests.support.dead_letter_bench import DAY, RUN, Bench

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def bench(redis: Redis, tmp_path: Path) -> Bench:
    return Bench(redis, tmp_path)


def test_after_eight_failures_the_sweep_gives_up_at_once(bench: Bench) -> None:
    bench.spend(bench.handed)
    assert bench.ledger.take_overdue().exhausted == (), "one sweep took it, the next one waits"
    bench.later(TIMERS.settle_due_seconds + 1)
    assert len(bench.ledger.take_overdue().exhausted) == 1, "a sweep that died is made up for"


def test_the_waits_grow(bench: Bench) -> None:
    waits, handed = [], bench.handed
    for _ in range(MAX_HELD_ATTEMPTS - 1):
        bench.fail_once(handed)
        waits.append(round(due_times(bench.redis, bench.ledger)[f"run:{RUN}"]))
        bench.until_due(RUN)
        (handed,) = bench.ledger.take_overdue().runs
        ran(bench.ledger, handed)
    assert waits == [300, 900, 2700, 7200, 21_600, 86_400, 86_400]


def test_crashes_beyond_their_budget_count_as_failures(bench: Bench) -> None:
    handed, exhausted = bench.handed, ()
    for _ in range(MAX_HELD_ATTEMPTS + 3):
        bench.later(TIMERS.lease_seconds + 1)
        overdue = bench.ledger.take_overdue()
        if not overdue.runs:
            bench.until_due(RUN)
            overdue = bench.ledger.take_overdue()
        if overdue.exhausted:
            exhausted = overdue.exhausted
            break
        (handed,) = overdue.runs
        ran(bench.ledger, handed)
    assert [one.run for one in exhausted] == [RUN]
    assert bench.ledger.run_fields(RUN, "crashes", "failures", "reason") == (str(MAX_HELD_ATTEMPTS + 3), "0", "crashed")


def test_a_record_that_waits_for_a_week_is_given_up_whatever_the_reason(bench: Bench) -> None:
    assert bench.ledger.reschedule_run(RUN, bench.handed.attempt, 300, counted=False, reason="AuthLost")
    bench.later(TIMERS.dead_letter_after_seconds + 1)
    (exhausted,) = bench.ledger.take_overdue().exhausted
    bench.dead_letter_queue.dead_letter(exhausted)
    assert [dead_letter.reason for dead_letter in bench.store.dead_letters.list()] == ["AuthLost"]


def test_what_was_never_tried_in_vain_is_tried_however_old(redis: Redis) -> None:
    ledger = ledger_on(redis)
    ledger.open("p1", [entry_of(1, nacked=True)], kind=BatchKind.RETRYING)
    pass_time(redis, ledger, TIMERS.dead_letter_after_seconds * 2)
    assert ledger.take_overdue().runs == (RunRef(RUN, 1),)


def test_an_unmarked_run_is_never_dead_lettered(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    for _ in range(MAX_HELD_ATTEMPTS + 2):
        ran(ledger, handed)
        ledger.reschedule_run(RUN, handed.attempt, 1, counted=True, reason="ValueError")
        pass_time(redis, ledger, TIMERS.dead_letter_after_seconds + 1)
        overdue = ledger.take_overdue()
        assert overdue.exhausted == ()
        (handed,) = overdue.runs


def test_a_reported_record_is_retrying_though_its_first_batch_is_still_open(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (first,) = opened(ledger, "p1", entry_of(1))
    ledger.fail(RUN, first.attempt, "ValueError", backoff_seconds=0.001)
    pass_time(redis, ledger, 1)
    assert opened(ledger, "p2", entry_of(1)) == (), "an unmarked delivery ran twice"
    assert opened(ledger, "p3", entry_of(1, nacked=True), kind=BatchKind.RETRYING) == ()
    assert ledger.begin_step(RUN, first.attempt, 1) is None, "a message of the failed run began"
    (retrying,) = ledger.take_overdue().runs
    assert retrying.attempt > first.attempt, "a message of the failed run would be taken for one of the retrying run"
    begun = ledger.begin_step(RUN, retrying.attempt, 0)
    assert begun is not None
    assert begun.retrying
    assert ledger.succeed(RUN, retrying.attempt).settleable == ("p3",)
    for before in ("p1", "p2"):
        settling = ledger.begin_settle(before)
        assert isinstance(settling, SettleLease)
        assert settling.outcomes == {}, "the record has left the batch it was nacked in"
        assert ledger.end_settle(settling, (), 1) == "closed"


def test_all_runs_of_a_reported_record_start_again(redis: Redis) -> None:
    """The report deleted a newer change: what the other pipeline saw is too old as well."""
    ledger = ledger_on(redis)
    good, bad = sorted(opened(ledger, "p1", entry_of(1, None, "a", "b")), key=lambda one: one.run)
    ledger.succeed(good.run, good.attempt)
    ledger.fail(bad.run, bad.attempt, "ValueError", backoff_seconds=0.001)
    pass_time(redis, ledger, 1)
    assert ledger.open("p2", [entry_of(1, None, "a", "b", nacked=True)], kind=BatchKind.RETRYING) == 2
    assert {one.run for one in ledger.take_overdue().runs} == {good.run, bad.run}


def test_a_pipeline_that_is_gone_leaves_nothing_of_a_reported_record(redis: Redis) -> None:
    ledger = ledger_on(redis)
    stays, goes = sorted(opened(ledger, "p1", entry_of(1, None, "a", "b")), key=lambda one: one.run)
    ledger.fail(stays.run, stays.attempt, "ValueError", backoff_seconds=0.001)
    ledger.succeed(goes.run, goes.attempt)
    assert ledger.open("p2", [entry_of(1, None, "a", nacked=True)], kind=BatchKind.RETRYING) == 1
    assert run_state(redis, ledger, goes.run) is None


def test_dead_lettering_writes_the_dead_letter_and_keeps_the_record(bench: Bench) -> None:
    exhausted = bench.dead_lettered()
    (dead_letter,) = bench.store.dead_letters.list()
    assert (dead_letter.portal, dead_letter.record_id, dead_letter.pipeline, dead_letter.reason) == (
        PORTAL,
        1,
        PIPELINE,
        "ValueError",
    )
    assert (dead_letter.object, dead_letter.event_name) == ("crm_deal 1", "ONCRMDEALUPDATE")
    assert dead_letter.payload["data"] == {"FIELDS": {"ID": "1"}}
    assert run_of_dead_letter(dead_letter) == RUN
    assert bench.state() == "dead_lettered"
    assert bench.ledger.begin_step(RUN, exhausted.attempt, 0) is None, "a message of before the dead-lettering began"
    settling = bench.ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {1: "unfinished"}
    assert bench.ledger.counters()["runs_dead_lettered"] == 1


def test_dead_lettering_again_changes_nothing_but_a_dead_letter_that_was_lost(bench: Bench) -> None:
    exhausted = bench.dead_lettered()
    assert bench.dead_letter_queue.dead_letter(exhausted) == "moved"
    bench.store.dead_letters.end(bench.store.dead_letters.list()[0].id)
    bench.later(DAY + 1)
    (check,) = bench.ledger.take_overdue().exhausted
    assert bench.dead_letter_queue.dead_letter(check) == "kept"
    assert len(bench.store.dead_letters.list()) == 1
    assert bench.ledger.counters()["runs_dead_lettered"] == 1
    assert due_times(bench.redis, bench.ledger)[f"run:{RUN}"] > DAY - 5
    assert due_times(bench.redis, bench.ledger)["batch:p1"] > DAY - 5


def test_a_dead_lettered_run_is_never_handed_out_whatever_its_history_says(bench: Bench) -> None:
    bench.dead_lettered()
    now = bench.ledger.now_ms()
    bench.redis.hset(f"{bench.ledger.stem}:run:{RUN}", mapping={"failures": 0, "seen": now})
    bench.redis.zadd(f"{bench.ledger.stem}:due", {f"run:{RUN}": now - 1})
    overdue = bench.ledger.take_overdue()
    assert (overdue.runs, [one.run for one in overdue.exhausted]) == ((), [RUN])


def test_a_death_between_dead_letter_and_ledger_is_made_up_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    exhausted = bench.spend(bench.handed)

    def die(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(bench.ledger, "transition", die)
        with pytest.raises(ConnectionError):
            bench.dead_letter_queue.dead_letter(exhausted)
    assert len(bench.store.dead_letters.list()) == 1, "the ledger was written before the dead letter"
    assert bench.state() == "waiting"
    bench.later(TIMERS.settle_due_seconds + 1)
    (again,) = bench.ledger.take_overdue().exhausted
    assert bench.dead_letter_queue.dead_letter(again) == "dead_lettered"
    assert len(bench.store.dead_letters.list()) == 1


def test_without_a_store_nothing_is_dead_lettered(bench: Bench) -> None:
    exhausted = bench.spend(bench.handed)
    with bench.store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE dead_letters RENAME TO away")
    with pytest.raises(StoreUnavailable):
        bench.dead_letter_queue.dead_letter(exhausted)
    assert bench.state() == "waiting"


@pytest.mark.parametrize("what", ["redriven", "running"])
def test_dead_lettering_that_comes_late_finds_the_run_moved(bench: Bench, what: str) -> None:
    exhausted = bench.spend(bench.handed)
    assert bench.dead_letter_queue.redrive(RUN) == "redriven"
    bench.later(1)
    (handed,) = bench.ledger.take_overdue().runs
    if what == "running":
        ran(bench.ledger, handed)
    assert bench.dead_letter_queue.dead_letter(exhausted) in {"moved", "done"}
    assert bench.state() in {"ready", "running"}


def test_dead_lettering_that_comes_after_the_settle_leaves_no_open_dead_letter(bench: Bench) -> None:
    exhausted = bench.dead_lettered()
    assert bench.dead_letter_queue.drop(RUN, "somebody") == "dropped"
    assert bench.dead_letter_queue.dead_letter(exhausted) == "done"
    assert bench.state() == "succeeded"


def test_loss_of_the_ledger_keeps_the_dead_letter_and_adoption_parks_into_it(bench: Bench) -> None:
    bench.dead_lettered()
    bench.redis.flushall()
    assert bench.dead_letter_queue.redrive(RUN) == "unknown"
    assert bench.dead_letter_queue.drop(RUN, "somebody") == "unknown"
    exhausted = bench.spend(bench.hold(1))
    assert bench.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    assert [dead_letter.id for dead_letter in bench.store.dead_letters.list()] == [1]


def test_dead_lettered_batches_leave_the_gate_of_the_retrying_ones(bench: Bench) -> None:
    gate = guard_on(bench.redis, bench.ledger, gate=1)
    for record in range(2, MAX_RETRYING_RECORDS + 1):
        bench.ledger.open(f"p{record}", [entry_of(record, nacked=True)], kind=BatchKind.RETRYING)
    assert not isinstance(gate.take_poll_lease(None, kind=BatchKind.RETRYING), PollLease)
    for record in range(2, MAX_RETRYING_RECORDS + 1):
        bench.ledger.forget(f"p{record}")
    bench.dead_lettered()
    for record in range(2, MAX_RETRYING_RECORDS + 1):
        bench.ledger.open(f"p{record}", [entry_of(record, nacked=True)], kind=BatchKind.RETRYING)
    assert isinstance(gate.take_poll_lease(None, kind=BatchKind.RETRYING), PollLease)
    assert "p1" not in bench.ledger.working_batches()
    assert "p1" in bench.ledger.open_batches()


def test_what_succeeded_beside_a_dead_lettered_run_does_not_rest_with_it(bench: Bench) -> None:
    entries = [entry_of(record, nacked=True) for record in (2, 3)]
    exhausted, good = (ran(bench.ledger, one) for one in opened(bench.ledger, "p2", *entries, kind=BatchKind.ADOPTED))
    assert bench.ledger.exhaust(exhausted.run, exhausted.attempt, reason="ValueError")
    assert bench.ledger.succeed(good.run, good.attempt).recorded
    (one,) = bench.ledger.take_overdue().exhausted
    assert bench.dead_letter_queue.dead_letter(one) == "dead_lettered"
    assert "p2" in bench.ledger.take_overdue().batches
    settling = bench.ledger.begin_settle("p2")
    assert isinstance(settling, SettleLease)
    # an answer of the portal was lost
    assert bench.ledger.end_settle(settling, (), TIMERS.settle_due_seconds) == "open"
    bench.later(TIMERS.settle_due_seconds + 1)
    assert "p2" in bench.ledger.take_overdue().batches
    settling = bench.ledger.begin_settle("p2")
    assert isinstance(settling, SettleLease)
    assert bench.ledger.end_settle(settling, [3], TIMERS.settle_due_seconds) == "open"
    assert due_times(bench.redis, bench.ledger)["batch:p2"] > DAY - 5


def test_redrive_gives_all_attempts_again(bench: Bench) -> None:
    bench.dead_lettered()
    bench.later(TIMERS.dead_letter_after_seconds + 1)
    assert bench.dead_letter_queue.redrive(RUN, delay_seconds=100) == "redriven"
    assert bench.dead_letter_queue.redrive(RUN) == "redriven"
    assert take_sample(bench.redis, bench.ledger, "b24offline").oldest_retrying_seconds < 60
    assert bench.ledger.kind("p1") is BatchKind.RETRYING
    bench.later(1)
    overdue = bench.ledger.take_overdue()
    assert ([one.run for one in overdue.runs], overdue.exhausted) == ([RUN], ())
    ran(bench.ledger, overdue.runs[0])
    assert bench.dead_letter_queue.redrive(RUN) == "running"
    assert bench.ledger.succeed(RUN, overdue.runs[0].attempt).settleable == ("p1",)
    assert bench.dead_letter_queue.redrive(RUN) == "succeeded"
    assert len(bench.store.dead_letters.list()) == 1, "the dead letter ends when the record is settled, not before"


@pytest.mark.parametrize("order", ["first", "after a redrive", "while it waits"])
def test_drop_is_an_outcome_that_settles(bench: Bench, order: str) -> None:
    if order == "while it waits":
        bench.fail_once(bench.handed)
    else:
        bench.dead_lettered()
    if order == "after a redrive":
        bench.dead_letter_queue.redrive(RUN)
    assert bench.dead_letter_queue.drop(RUN, "somebody") == "dropped"
    assert bench.dead_letter_queue.drop(RUN, "somebody") == "succeeded"
    assert bench.ledger.run_fields(RUN, "state", "reason") == ("succeeded", "dropped by somebody")
    assert bench.ledger.take_overdue().batches == ("p1",)
    assert bench.ledger.take_overdue().runs == ()


def test_what_runs_is_not_dropped(bench: Bench) -> None:
    assert bench.dead_letter_queue.drop(RUN, "somebody") == "running"
    assert bench.dead_letter_queue.drop("9@1/x", "somebody") == "unknown"
    assert bench.state() == "running"
