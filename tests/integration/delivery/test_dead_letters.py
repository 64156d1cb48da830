"""Dead-lettering: the dead letter first, then the ledger; any number of times, in any order, after any loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery import run_of_dead_letter
from b24offline.errors import StoreUnavailable
from b24offline.ledger import MAX_HELD_ATTEMPTS, MAX_RETRYING_RECORDS, BatchKind, PollLease, RunRef, SettleLease
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
    run_of,
    run_state,
)
from tests.support.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


RUN = run_of(1)
DAY = TIMERS.redrive_backoff_seconds[-1]


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    """Return a deployment with a retrying run that has begun."""
    acme = Deployment(redis, tmp_path)
    acme.handed = acme.retry(1)
    return acme


def test_after_eight_failures_the_sweep_gives_up_at_once(acme: Deployment) -> None:
    acme.use_up(acme.handed)
    assert acme.ledger.take_overdue().exhausted == (), "one sweep took it, the next one waits"
    acme.later(TIMERS.settle_due_seconds + 1)
    assert len(acme.ledger.take_overdue().exhausted) == 1, "a sweep that died is made up for"


def test_the_waits_grow(acme: Deployment) -> None:
    waits, handed = [], acme.handed
    for _ in range(MAX_HELD_ATTEMPTS - 1):
        acme.fail_once(handed)
        waits.append(round(due_times(acme.redis, acme.ledger)[f"run:{RUN}"]))
        acme.until_due(RUN)
        (handed,) = acme.ledger.take_overdue().runs
        ran(acme.ledger, handed)
    assert waits == [300, 900, 2700, 7200, 21_600, 86_400, 86_400]


def test_crashes_beyond_their_budget_count_as_failures(acme: Deployment) -> None:
    handed, exhausted = acme.handed, ()
    for _ in range(MAX_HELD_ATTEMPTS + 3):
        acme.later(TIMERS.lease_seconds + 1)
        overdue = acme.ledger.take_overdue()
        if not overdue.runs:
            acme.until_due(RUN)
            overdue = acme.ledger.take_overdue()
        if overdue.exhausted:
            exhausted = overdue.exhausted
            break
        (handed,) = overdue.runs
        ran(acme.ledger, handed)
    assert [one.run for one in exhausted] == [RUN]
    assert acme.ledger.run_fields(RUN, "crashes", "failures", "reason") == (str(MAX_HELD_ATTEMPTS + 3), "0", "crashed")


def test_a_record_that_waits_for_a_week_is_given_up_whatever_the_reason(acme: Deployment) -> None:
    assert acme.ledger.reschedule_run(RUN, acme.handed.attempt, 300, counted=False, reason="AuthLost")
    acme.later(TIMERS.dead_letter_after_seconds + 1)
    (exhausted,) = acme.ledger.take_overdue().exhausted
    acme.dead_letter_queue.dead_letter(exhausted)
    assert [dead_letter.reason for dead_letter in acme.store.dead_letters.list()] == ["AuthLost"]


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


def test_dead_lettering_writes_the_dead_letter_and_keeps_the_record(acme: Deployment) -> None:
    exhausted = acme.dead_letter(acme.handed)
    (dead_letter,) = acme.store.dead_letters.list()
    assert (dead_letter.portal, dead_letter.record_id, dead_letter.pipeline, dead_letter.reason) == (
        PORTAL,
        1,
        PIPELINE,
        "ValueError",
    )
    assert (dead_letter.object, dead_letter.event_name) == ("crm_deal 1", "ONCRMDEALUPDATE")
    assert dead_letter.payload["data"] == {"FIELDS": {"ID": "1"}}
    assert run_of_dead_letter(dead_letter) == RUN
    assert acme.state() == "dead_lettered"
    assert acme.ledger.begin_step(RUN, exhausted.attempt, 0) is None, "a message of before the dead-lettering began"
    settling = acme.ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {1: "unfinished"}
    assert acme.ledger.counters()["runs_dead_lettered"] == 1


def test_dead_lettering_again_changes_nothing_but_a_dead_letter_that_was_lost(acme: Deployment) -> None:
    exhausted = acme.dead_letter(acme.handed)
    assert acme.dead_letter_queue.dead_letter(exhausted) == "moved"
    acme.store.dead_letters.end(acme.store.dead_letters.list()[0].id)
    acme.later(DAY + 1)
    (check,) = acme.ledger.take_overdue().exhausted
    assert acme.dead_letter_queue.dead_letter(check) == "kept"
    assert len(acme.store.dead_letters.list()) == 1
    assert acme.ledger.counters()["runs_dead_lettered"] == 1
    assert due_times(acme.redis, acme.ledger)[f"run:{RUN}"] > DAY - 5
    assert due_times(acme.redis, acme.ledger)["batch:p1"] > DAY - 5


def test_a_dead_lettered_run_is_never_handed_out_whatever_its_history_says(acme: Deployment) -> None:
    acme.dead_letter(acme.handed)
    now = acme.ledger.now_ms()
    acme.redis.hset(f"{acme.ledger.stem}:run:{RUN}", mapping={"failures": 0, "seen": now})
    acme.redis.zadd(f"{acme.ledger.stem}:due", {f"run:{RUN}": now - 1})
    overdue = acme.ledger.take_overdue()
    assert (overdue.runs, [one.run for one in overdue.exhausted]) == ((), [RUN])


def test_a_death_between_dead_letter_and_ledger_is_repaired(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    exhausted = acme.use_up(acme.handed)

    def die(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(acme.ledger, "transition", die)
        with pytest.raises(ConnectionError):
            acme.dead_letter_queue.dead_letter(exhausted)
    assert len(acme.store.dead_letters.list()) == 1, "the ledger was written before the dead letter"
    assert acme.state() == "waiting"
    acme.later(TIMERS.settle_due_seconds + 1)
    (again,) = acme.ledger.take_overdue().exhausted
    assert acme.dead_letter_queue.dead_letter(again) == "dead_lettered"
    assert len(acme.store.dead_letters.list()) == 1


def test_without_a_store_nothing_is_dead_lettered(acme: Deployment) -> None:
    exhausted = acme.use_up(acme.handed)
    with acme.store.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE dead_letters RENAME TO away")
    with pytest.raises(StoreUnavailable):
        acme.dead_letter_queue.dead_letter(exhausted)
    assert acme.state() == "waiting"


@pytest.mark.parametrize("what", ["redriven", "running"])
def test_dead_lettering_that_comes_late_finds_the_run_moved(acme: Deployment, what: str) -> None:
    exhausted = acme.use_up(acme.handed)
    assert acme.dead_letter_queue.redrive(RUN) == "redriven"
    acme.later(1)
    (handed,) = acme.ledger.take_overdue().runs
    if what == "running":
        ran(acme.ledger, handed)
    assert acme.dead_letter_queue.dead_letter(exhausted) in {"moved", "done"}
    assert acme.state() in {"ready", "running"}


def test_dead_lettering_that_comes_after_the_settle_leaves_no_open_dead_letter(acme: Deployment) -> None:
    exhausted = acme.dead_letter(acme.handed)
    assert acme.dead_letter_queue.drop(RUN, "somebody") == "dropped"
    assert acme.dead_letter_queue.dead_letter(exhausted) == "done"
    assert acme.state() == "succeeded"


def test_loss_of_the_ledger_keeps_the_dead_letter_and_adoption_parks_into_it(acme: Deployment) -> None:
    acme.dead_letter(acme.handed)
    acme.redis.flushall()
    assert acme.dead_letter_queue.redrive(RUN) == "unknown"
    assert acme.dead_letter_queue.drop(RUN, "somebody") == "unknown"
    exhausted = acme.use_up(acme.retry(1))
    assert acme.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    assert [dead_letter.id for dead_letter in acme.store.dead_letters.list()] == [1]


def test_dead_lettered_batches_leave_the_gate_of_the_retrying_ones(acme: Deployment) -> None:
    gate = guard_on(acme.redis, acme.ledger, gate=1)
    for record in range(2, MAX_RETRYING_RECORDS + 1):
        acme.ledger.open(f"p{record}", [entry_of(record, nacked=True)], kind=BatchKind.RETRYING)
    assert not isinstance(gate.take_poll_lease(None, kind=BatchKind.RETRYING), PollLease)
    for record in range(2, MAX_RETRYING_RECORDS + 1):
        acme.ledger.forget(f"p{record}")
    acme.dead_letter(acme.handed)
    for record in range(2, MAX_RETRYING_RECORDS + 1):
        acme.ledger.open(f"p{record}", [entry_of(record, nacked=True)], kind=BatchKind.RETRYING)
    assert isinstance(gate.take_poll_lease(None, kind=BatchKind.RETRYING), PollLease)
    assert "p1" not in acme.ledger.working_batches()
    assert "p1" in acme.ledger.open_batches()


def test_what_succeeded_beside_a_dead_lettered_run_does_not_rest_with_it(acme: Deployment) -> None:
    entries = [entry_of(record, nacked=True) for record in (2, 3)]
    exhausted, good = (ran(acme.ledger, one) for one in opened(acme.ledger, "p2", *entries, kind=BatchKind.ADOPTED))
    assert acme.ledger.exhaust(exhausted.run, exhausted.attempt, reason="ValueError")
    assert acme.ledger.succeed(good.run, good.attempt).recorded
    (one,) = acme.ledger.take_overdue().exhausted
    assert acme.dead_letter_queue.dead_letter(one) == "dead_lettered"
    assert "p2" in acme.ledger.take_overdue().batches
    settling = acme.ledger.begin_settle("p2")
    assert isinstance(settling, SettleLease)
    # an answer of the portal was lost
    assert acme.ledger.end_settle(settling, (), TIMERS.settle_due_seconds) == "open"
    acme.later(TIMERS.settle_due_seconds + 1)
    assert "p2" in acme.ledger.take_overdue().batches
    settling = acme.ledger.begin_settle("p2")
    assert isinstance(settling, SettleLease)
    assert acme.ledger.end_settle(settling, [3], TIMERS.settle_due_seconds) == "open"
    assert due_times(acme.redis, acme.ledger)["batch:p2"] > DAY - 5


def test_redrive_gives_all_attempts_again(acme: Deployment) -> None:
    acme.dead_letter(acme.handed)
    acme.later(TIMERS.dead_letter_after_seconds + 1)
    assert acme.dead_letter_queue.redrive(RUN, delay_seconds=100) == "redriven"
    assert acme.dead_letter_queue.redrive(RUN) == "redriven"
    assert take_sample(acme.redis, acme.ledger).oldest_retrying_seconds < 60
    assert acme.ledger.kind("p1") is BatchKind.RETRYING
    acme.later(1)
    overdue = acme.ledger.take_overdue()
    assert ([one.run for one in overdue.runs], overdue.exhausted) == ([RUN], ())
    ran(acme.ledger, overdue.runs[0])
    assert acme.dead_letter_queue.redrive(RUN) == "running"
    assert acme.ledger.succeed(RUN, overdue.runs[0].attempt).settleable == ("p1",)
    assert acme.dead_letter_queue.redrive(RUN) == "succeeded"
    assert len(acme.store.dead_letters.list()) == 1, "the dead letter ends when the record is settled, not before"


@pytest.mark.parametrize("order", ["first", "after a redrive", "while it waits"])
def test_drop_is_an_outcome_that_settles(acme: Deployment, order: str) -> None:
    if order == "while it waits":
        acme.fail_once(acme.handed)
    else:
        acme.dead_letter(acme.handed)
    if order == "after a redrive":
        acme.dead_letter_queue.redrive(RUN)
    assert acme.dead_letter_queue.drop(RUN, "somebody") == "dropped"
    assert acme.dead_letter_queue.drop(RUN, "somebody") == "succeeded"
    assert acme.ledger.run_fields(RUN, "state", "reason") == ("succeeded", "dropped by somebody")
    assert acme.ledger.take_overdue().batches == ("p1",)
    assert acme.ledger.take_overdue().runs == ()


def test_what_runs_is_not_dropped(acme: Deployment) -> None:
    assert acme.dead_letter_queue.drop(RUN, "somebody") == "running"
    assert acme.dead_letter_queue.drop("9@1/x", "somebody") == "unknown"
    assert acme.state() == "running"
