"""Failures counted for each step of a run, and a retrying run exhausted at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.ledger import MAX_HELD_ATTEMPTS, STEP_STRIDE
from tests.support.core_events import due_times, entry_of, ledger_on, opened, pass_time, run_of
from tests.support.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

RUN = run_of(1)


def test_a_step_knows_its_own_failures_also_after_the_run_started_again(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    run, attempt = handed.run, handed.attempt

    def failures(position: int) -> tuple[int, int]:
        begun = ledger.begin_step(run, attempt, position)
        assert begun is not None
        return begun.failures, begun.step_failures

    assert failures(0) == (0, 0)
    ledger.retry_step(run, attempt, 1, counted=True, reason="x")
    assert failures(1) == (1, 1)
    ledger.retry_step(run, attempt, 1, counted=False, reason="x")
    assert failures(2) == (1, 1)
    ledger.pass_on(run, attempt, 2)
    assert failures(STEP_STRIDE) == (1, 0)
    ledger.reschedule_run(run, attempt, 5, counted=True, reason="x")
    pass_time(redis, ledger, 6)
    ((again),) = ledger.take_overdue().runs
    attempt = again.attempt
    assert failures(0) == (2, 1)
    assert failures(STEP_STRIDE) == (2, 1)


def test_what_fails_before_a_step_began_is_no_steps_failure(redis: Redis) -> None:
    ledger = ledger_on(redis)
    (handed,) = opened(ledger, "p1", entry_of(1))
    assert ledger.reschedule_run(handed.run, handed.attempt, 5, counted=True, reason="x")
    assert not [name for name in redis.hkeys(f"{ledger.stem}:run:{run_of(1)}") if str(name).startswith("failures:")]


def test_a_retrying_run_without_hope_is_given_to_the_next_sweep(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path)
    acme.handed = acme.retry(1)
    acme.fail_once(acme.handed)
    acme.until_due(RUN)
    (handed,) = acme.ledger.take_overdue().runs
    begun = acme.ledger.begin_step(handed.run, handed.attempt, 0)
    assert begun is not None
    assert acme.ledger.exhaust(handed.run, handed.attempt, reason="Permanent")
    assert due_times(redis, acme.ledger)[f"run:{RUN}"] <= 0
    (exhausted,) = acme.ledger.take_overdue().exhausted
    assert acme.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    [dead_letter] = acme.store.dead_letters.list("acme")
    assert dead_letter.reason == "Permanent"
    assert acme.ledger.run_fields(RUN, "failures") == (str(MAX_HELD_ATTEMPTS),)
    assert acme.dead_letter_queue.redrive(RUN) == "redriven", "a person may give it all its attempts again"
    acme.later(1)
    assert [one.run for one in acme.ledger.take_overdue().runs] == [RUN]
