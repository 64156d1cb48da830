"""Runs in the ledger: leases, attempt tokens, retries, outcomes, crashes, and who comes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.events import stamp_seconds
from b24offline.ledger import STEP_STRIDE, BatchKind, Completion, Ledger, RunRef, StepLease
from tests.support.core_events import (
    STAMP,
    TIMERS,
    due_times,
    entry_of,
    event_of,
    ledger_on,
    opened,
    pass_time,
    ran,
    run_of,
    run_state,
)

if TYPE_CHECKING:
    from redis import Redis

NOTHING = Completion(recorded=False, next=None, settleable=())


def begun(redis: Redis, *records: int, deal: str | None = None, **changes: bool) -> tuple[Ledger, RunRef]:
    """Return a ledger with one open batch whose first run has begun."""
    ledger = ledger_on(redis)
    handed = opened(ledger, "p1", *(entry_of(i, deal, **changes) for i in records))
    return ledger, ran(ledger, next(one for one in handed if one.run == run_of(records[0])))


def test_the_first_step_gets_the_event_and_the_history_of_its_run(redis: Redis) -> None:
    ledger = ledger_on(redis)
    before = ledger.now_ms()
    (handed,) = opened(ledger, "p1", entry_of(1, nacked=True))
    assert handed.run == f"1@{stamp_seconds(STAMP)}/deal_changed"
    step = ledger.begin_step(handed.run, handed.attempt, 0)
    assert step is not None
    assert (step.event, step.failures, step.retrying) == (event_of(1, nacked=True), 0, True)
    assert before <= step.seen_ms <= ledger.now_ms()


def test_a_delivery_begins_once(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    assert ledger.begin_step(handed.run, handed.attempt, 0) is None
    assert ledger.begin_step(handed.run, handed.attempt, STEP_STRIDE) is not None
    assert ledger.begin_step(handed.run, handed.attempt, STEP_STRIDE) is None
    assert ledger.begin_step(handed.run, handed.attempt, 1) is None
    assert ledger.begin_step(handed.run, handed.attempt, STEP_STRIDE + 1) is not None


def lease_of(ledger: Ledger, record: int) -> StepLease:
    """Return a lease as the first step of a run got it."""
    return StepLease(event_of(record), 0, retrying=False, seen_ms=ledger.now_ms(), tries=1, step_failures=0)


def test_a_step_goes_on_to_the_next_one_once_with_a_new_lease(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    run, attempt, lease = handed.run, handed.attempt, lease_of(ledger, 1)
    pass_time(redis, ledger, TIMERS.lease_seconds / 2)
    assert ledger.go_on(run, attempt, 0, STEP_STRIDE, lease) == lease
    assert due_times(redis, ledger)[f"run:{run}"] > TIMERS.lease_seconds * 0.9
    assert ledger.go_on(run, attempt, 0, STEP_STRIDE, lease) is None, "it had gone on before"
    assert ledger.begin_step(run, attempt, 1) is None, "a late message of the first step"
    assert not ledger.renew(run, attempt, 0)
    assert ledger.renew(run, attempt, STEP_STRIDE)
    assert ledger.succeed(run, attempt).recorded
    assert ledger.go_on(run, attempt, STEP_STRIDE, 2 * STEP_STRIDE, lease) is None, "it is done"


@pytest.mark.parametrize("attempt", [0, 2, 99])
def test_another_attempt_cannot_touch_the_run(redis: Redis, attempt: int) -> None:
    ledger, handed = begun(redis, 1)
    run = handed.run
    assert ledger.begin_step(run, attempt, STEP_STRIDE) is None
    assert not ledger.renew(run, attempt, 0)
    assert not ledger.pass_on(run, attempt, 0)
    assert ledger.go_on(run, attempt, 0, STEP_STRIDE, lease_of(ledger, 1)) is None
    assert not ledger.retry_step(run, attempt, 1, counted=True, reason="x")
    assert not ledger.reschedule_run(run, attempt, 1, counted=True, reason="x")
    assert ledger.succeed(run, attempt) == NOTHING
    assert ledger.fail(run, attempt, "x", backoff_seconds=1) == NOTHING
    assert ledger.crash(run, attempt, backoff_seconds=1) == NOTHING
    assert run_state(redis, ledger, run) == "running"


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_after_its_outcome_nothing_touches_the_run(redis: Redis, outcome: str) -> None:
    ledger, handed = begun(redis, 1, 2)
    run, attempt = handed.run, handed.attempt
    reply = (
        ledger.succeed(run, attempt) if outcome == "succeeded" else ledger.fail(run, attempt, "x", backoff_seconds=1)
    )
    assert reply == Completion(recorded=True, next=None, settleable=())
    assert ledger.begin_step(run, attempt, STEP_STRIDE) is None
    assert not ledger.renew(run, attempt, 0)
    assert not ledger.pass_on(run, attempt, 0)
    assert not ledger.retry_step(run, attempt, 1, counted=True, reason="x")
    assert ledger.succeed(run, attempt) == NOTHING
    assert ledger.fail(run, attempt, "x", backoff_seconds=1) == NOTHING
    assert ledger.crash(run, attempt, backoff_seconds=1) == NOTHING
    assert run_state(redis, ledger, run) == outcome
    assert f"run:{run}" not in due_times(redis, ledger)
    # a second answer did not count twice against the batch
    assert ledger.succeed(run_of(2), 1).settleable == ("p1",)


def test_a_lease_is_renewed_by_the_step_that_holds_it(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    pass_time(redis, ledger, TIMERS.lease_seconds - 1)
    assert ledger.renew(handed.run, handed.attempt, 0)
    assert due_times(redis, ledger)[f"run:{handed.run}"] > TIMERS.lease_seconds - 5
    assert ledger.take_overdue().runs == ()
    ledger.begin_step(handed.run, handed.attempt, STEP_STRIDE)
    assert not ledger.renew(handed.run, handed.attempt, 0), "an earlier step kept the lease alive"
    assert ledger.renew(handed.run, handed.attempt, STEP_STRIDE)


def test_between_two_steps_the_bound_is_that_of_a_queue(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    assert not ledger.pass_on(handed.run, handed.attempt, STEP_STRIDE)
    assert ledger.pass_on(handed.run, handed.attempt, 0)
    assert due_times(redis, ledger)[f"run:{handed.run}"] > TIMERS.lease_seconds
    pass_time(redis, ledger, TIMERS.lease_seconds + 1)
    assert ledger.take_overdue().runs == ()


def test_a_step_that_waits_long_for_a_worker_is_no_crash(redis: Redis) -> None:
    """A backlog deeper than the bound must not fail healthy runs."""
    ledger, handed = begun(redis, 1)
    for attempt in range(1, 8):
        assert ledger.pass_on(handed.run, attempt, 0)
        pass_time(redis, ledger, TIMERS.run_queue_seconds * (attempt - 0.5))
        assert ledger.take_overdue().runs == (), "the bound did not grow with the attempts"
        pass_time(redis, ledger, TIMERS.run_queue_seconds)
        assert ledger.take_overdue().runs == (RunRef(handed.run, attempt + 1),)
        assert ledger.begin_step(handed.run, attempt + 1, 0) is not None
        assert ledger.begin_step(handed.run, attempt, STEP_STRIDE) is None, "the message of a replaced attempt ran"
    assert "runs_crashed" not in ledger.counters()


@pytest.mark.parametrize(("counted", "failures"), [(True, 1), (False, 0)])
def test_a_repeated_step_comes_by_message_and_is_guarded(redis: Redis, counted: bool, failures: int) -> None:
    ledger, handed = begun(redis, 1)
    assert ledger.retry_step(handed.run, handed.attempt, 30, counted=counted, reason="Boom")
    assert run_state(redis, ledger, handed.run) == "waiting"
    assert due_times(redis, ledger)[f"run:{handed.run}"] > TIMERS.run_queue_seconds
    pass_time(redis, ledger, 31)
    assert ledger.take_overdue().runs == (), "the message was not given its time in the queue"
    step = ledger.begin_step(handed.run, handed.attempt, 1)
    assert step is not None
    assert step.failures == failures
    assert redis.hget(f"{ledger.stem}:run:{handed.run}", "reason") == "Boom"


def test_a_repeat_is_given_the_time_that_the_queue_took_before(redis: Redis) -> None:
    """Under a backlog that is deeper than the bound each repeat would else start the run from its first step."""
    ledger, handed = begun(redis, 1)
    for _ in range(2):
        pass_time(redis, ledger, TIMERS.run_queue_seconds * 3)
        (handed,) = ledger.take_overdue().runs
    assert ledger.begin_step(handed.run, handed.attempt, 0) is not None
    ledger.retry_step(handed.run, handed.attempt, 2, counted=False, reason="limit")
    pass_time(redis, ledger, TIMERS.run_queue_seconds * 2)
    assert ledger.take_overdue().runs == ()
    assert ledger.begin_step(handed.run, handed.attempt, 1) is not None


def test_a_repeat_whose_message_is_lost_restarts_the_run(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    ledger.retry_step(handed.run, handed.attempt, 30, counted=True, reason="Boom")
    pass_time(redis, ledger, 31 + TIMERS.run_queue_seconds)
    assert ledger.take_overdue().runs == (RunRef(handed.run, 2),)
    assert ledger.begin_step(handed.run, 2, 0) is not None
    assert ledger.begin_step(handed.run, 1, 1) is None, "the lost message of the old attempt came after all"


@pytest.mark.parametrize(("first_read", "passed"), [(1, False), (1, True), (3, False), (4, True)])
def test_of_messages_that_are_late_the_first_read_begins(redis: Redis, first_read: int, passed: bool) -> None:
    """Under a backlog deeper than every bound each message is read after its run was handed out again."""
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    if passed:
        ran(ledger, handed)
        assert ledger.pass_on(handed.run, 1, 0)
    for _ in range(3):
        pass_time(redis, ledger, 9 * TIMERS.run_queue_seconds)
        (handed,) = ledger.take_overdue().runs
    assert handed.attempt == 4
    position = STEP_STRIDE if passed and first_read == 1 else 0
    assert ledger.begin_step(handed.run, 5, 0) is None, "never handed out"
    assert not passed or ledger.begin_step(handed.run, 1, 0) is None, "delivered twice"
    assert ledger.begin_step(handed.run, first_read, position) is not None
    for other in {1, 2, 3, 4} - {first_read}:
        assert ledger.begin_step(handed.run, other, STEP_STRIDE) is None, "two attempts of one run began"
    assert ledger.begin_step(handed.run, first_read, position) is None, "delivered twice"
    assert ledger.pass_on(handed.run, first_read, position)
    pass_time(redis, ledger, 9 * TIMERS.run_queue_seconds)
    assert ledger.take_overdue().runs == (RunRef(handed.run, 5),), "a number came twice"
    for void in {1, 2, 3, 4} - {first_read}:
        assert ledger.begin_step(handed.run, void, 0) is None, "a message of before put the run back"
    assert ledger.begin_step(handed.run, first_read, position + STEP_STRIDE) is not None


@pytest.mark.parametrize("how", ["crash", "lease"])
def test_what_a_dead_attempt_left_in_a_queue_is_void(redis: Redis, how: str) -> None:
    ledger, handed = begun(redis, 1)
    if how == "crash":
        ledger.crash(handed.run, 1, backoff_seconds=1)
    pass_time(redis, ledger, TIMERS.lease_seconds + 1)
    (again,) = ledger.take_overdue().runs
    for position in (0, 1, STEP_STRIDE):
        assert ledger.begin_step(handed.run, 1, position) is None
    assert ledger.begin_step(again.run, again.attempt, 0) is not None


def test_a_restart_comes_from_the_ledger_after_its_wait(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    assert ledger.reschedule_run(handed.run, handed.attempt, 300, counted=True, reason="Boom")
    pass_time(redis, ledger, 299)
    assert ledger.take_overdue().runs == ()
    pass_time(redis, ledger, 2)
    assert ledger.take_overdue().runs == (RunRef(handed.run, 2),)
    step = ledger.begin_step(handed.run, 2, 0)
    assert step is not None
    assert step.failures == 1


def test_a_crash_starts_the_run_again_after_a_growing_backoff(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    assert ledger.crash(handed.run, 1, backoff_seconds=10) == Completion(recorded=True, next=None, settleable=())
    assert run_state(redis, ledger, handed.run) == "waiting"
    assert ledger.begin_step(handed.run, 1, STEP_STRIDE) is None, "the dead attempt went on"
    assert ledger.crash(handed.run, 1, backoff_seconds=10) == NOTHING
    assert 5 < due_times(redis, ledger)[f"run:{handed.run}"] <= 10
    pass_time(redis, ledger, 11)
    (again,) = ledger.take_overdue().runs
    assert again.attempt > 1
    ran(ledger, again)
    ledger.crash(again.run, again.attempt, backoff_seconds=10)
    assert 15 < due_times(redis, ledger)[f"run:{handed.run}"] <= 20


def test_the_crash_budget_ends_in_failure(redis: Redis) -> None:
    ledger, handed = begun(redis, 1)
    for _ in range(2):
        assert ledger.crash(handed.run, handed.attempt, backoff_seconds=1).settleable == ()
        pass_time(redis, ledger, 3)
        (handed,) = ledger.take_overdue().runs
        ran(ledger, handed)
    reply = ledger.crash(handed.run, handed.attempt, backoff_seconds=1)
    assert reply == Completion(recorded=True, next=None, settleable=("p1",))
    assert run_state(redis, ledger, handed.run) == "failed"
    step_failures = redis.hget(f"{ledger.stem}:run:{handed.run}", "failures")
    assert step_failures == "0", "crashes were counted as errors"


def test_a_retrying_run_never_fails_by_crashing(redis: Redis) -> None:
    ledger, handed = begun(redis, 1, nacked=True)
    for number in range(1, 8):
        assert ledger.crash(handed.run, handed.attempt, backoff_seconds=1).settleable == ()
        pass_time(redis, ledger, number + 1 if number <= 3 else TIMERS.redrive_backoff_seconds[number - 4] + 1)
        (handed,) = ledger.take_overdue().runs
        ran(ledger, handed)
    pass_time(redis, ledger, TIMERS.lease_seconds + 1)
    assert ledger.take_overdue().runs == (), "a retrying run that crashed often was started again at once"
    pass_time(redis, ledger, TIMERS.redrive_backoff_seconds[4] + 1)
    assert ledger.take_overdue().runs != ()
    assert run_state(redis, ledger, handed.run) == "ready"


def test_the_finisher_hands_out_the_next_run_once(redis: Redis) -> None:
    ledger, handed = begun(redis, 1, 2, 3, deal="7")
    reply = ledger.succeed(handed.run, handed.attempt)
    assert reply.next == RunRef(run_of(2), 1)
    assert ledger.succeed(handed.run, handed.attempt).next is None
    assert ledger.start("p1") == ()
    ran(ledger, RunRef(run_of(2), 1))
    assert ledger.succeed(run_of(2), 1).next == RunRef(run_of(3), 1)


def test_a_waiting_run_keeps_its_object_queue(redis: Redis) -> None:
    ledger, handed = begun(redis, 1, 2, deal="7")
    ledger.reschedule_run(handed.run, handed.attempt, 5_000, counted=True, reason="x")
    for _ in range(4):
        pass_time(redis, ledger, TIMERS.run_queue_seconds + 1)
        assert ledger.take_overdue().runs == ()
    assert run_state(redis, ledger, run_of(2)) == "ready"


def test_after_a_failure_the_object_queue_waits_out_its_backoff(redis: Redis) -> None:
    ledger, handed = begun(redis, 1, 2, deal="7")
    assert ledger.fail(handed.run, handed.attempt, "x", backoff_seconds=30).next is None
    assert ledger.start("p1") == (), "a second dispatch went around the backoff"
    pass_time(redis, ledger, 29)
    assert ledger.take_overdue().runs == ()
    pass_time(redis, ledger, 2)
    assert ledger.take_overdue().runs == (RunRef(run_of(2), 1),)


def test_the_backoff_holds_for_a_run_that_arrives_after_the_failure(redis: Redis) -> None:
    ledger, handed = begun(redis, 1, deal="7")
    ledger.fail(handed.run, handed.attempt, "x", backoff_seconds=90)
    assert opened(ledger, "p2", entry_of(2, "7"), entry_of(3, "8")) == (RunRef(run_of(3), 1),)
    pass_time(redis, ledger, TIMERS.dispatch_due_seconds + 1)
    assert ledger.take_overdue().runs == (), "the sweep went around the backoff"
    pass_time(redis, ledger, 30)
    assert ledger.take_overdue().runs == (RunRef(run_of(2), 1),)


def test_the_backoff_holds_for_a_run_that_nobody_dispatched(redis: Redis) -> None:
    ledger, handed = begun(redis, 1, deal="7")
    ledger.fail(handed.run, handed.attempt, "x", backoff_seconds=90)
    ledger.open("p2", [entry_of(2, "7")], kind=BatchKind.POLLED)
    pass_time(redis, ledger, TIMERS.dispatch_due_seconds + 1)
    assert ledger.take_overdue().runs == ()
    pass_time(redis, ledger, 30)
    assert ledger.take_overdue().runs == (RunRef(run_of(2), 1),)
