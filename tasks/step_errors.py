"""What becomes of an error of a step: it is judged, logged with all that places it, and recorded."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Retry

from b24offline.contract import STEP_PREFIX
from b24offline.delivery import retry_policy
from b24offline.events import RetryRules, routes
from b24offline.log import showable
from b24offline.settings import config
from b24offline.tasks.failure_log import log_error, place_of, words_of
from b24offline.tasks.publish import follow

if TYPE_CHECKING:
    from b24offline.delivery import PortalServices
    from b24offline.ledger import StepLease
    from b24offline.tasks.chains import StepHeader


def _asked_for(error: Exception, rules: RetryRules) -> tuple[Exception, RetryRules]:
    """Return the error and the rules of an attempt that failed; a handler's own `retry` names both."""
    if not isinstance(error, Retry):
        return error, rules
    when: Any = error.when
    most: int | None = getattr(error, "max_retries", None)
    if isinstance(when, datetime):
        when = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    if when is not None:
        rules = replace(rules, backoff_seconds=(max(0.001, float(when)),))
    if most is not None:
        rules = replace(rules, attempts=most + 1)
    return error.exc if isinstance(error.exc, Exception) else error, rules


def judge(
    task: Any, services: PortalServices, pipeline: str, lease: StepLease, error: Exception
) -> tuple[Exception, retry_policy.Verdict]:
    """Return the error that a step ended with, and what follows from it."""
    error, rules = _asked_for(error, task.retry_rules.over(routes.retry_rules(pipeline)))
    now_epoch = time.time()
    refused = retry_policy.may_concern_object(error)
    passing = retry_policy.uncounted_wait_seconds(error, config.timers, now_epoch) if refused else None
    return error, retry_policy.decide(
        error,
        rules=rules.scaled(config.time_scale),
        failures=lease.failures,
        step_failures=lease.step_failures,
        retrying=lease.retrying,
        max_attempts=config.max_attempts,
        timers=config.timers,
        now_epoch=now_epoch,
        age_seconds=(services.ledger.now_ms() - lease.seen_ms) / 1000 if refused else 0.0,
        answered_seconds_ago=math.inf if passing is None else services.reader.answered_seconds_ago(error, passing),
    )


def after_error(task: Any, services: PortalServices, header: StepHeader, lease: StepLease, error: Exception) -> Any:
    """Judge an error of a step, log and record it. Raise what Celery shows of it; return where the run goes on."""
    ledger, run, attempt = services.ledger, header.run, header.attempt
    error, verdict = judge(task, services, header.pipeline, lease, error)
    log_failure(task, header.pipeline, lease, error, verdict)
    if lease.retrying:
        services.dead_letter_queue.note_error(run, words_of(error))
    if isinstance(verdict, retry_policy.Fail):
        reply = ledger.fail(run, attempt, verdict.reason, backoff_seconds=verdict.backoff_seconds)
        follow(services, reply)
        raise showable(error) from None
    if isinstance(verdict, retry_policy.Exhaust):
        ledger.exhaust(run, attempt, reason=verdict.reason)
        raise showable(error) from None
    wait, counted, reason = verdict.wait_seconds, verdict.counted, verdict.reason
    if verdict.restart:
        ledger.reschedule_run(run, attempt, wait, counted=counted, reason=reason)
        end_chain(task)
        return f"starts again in {wait:.0f} s: {reason}"
    ledger.retry_step(run, attempt, wait, counted=counted, reason=reason)
    shown = showable(error)
    shows: dict[str, Any] = {"argsrepr": header.title, "kwargsrepr": ""}
    retry = Task.retry(task, exc=shown, countdown=wait, max_retries=None, throw=False, **shows)
    raise retry.with_traceback(shown.__traceback__) from None


def log_failure(task: Any, pipeline: str, lease: StepLease, error: Exception, verdict: retry_policy.Verdict) -> None:
    """Log the failure of a step for one event: what it is about, and what follows."""
    event = lease.event
    level, then = logging.ERROR, "dead-lettered" if isinstance(verdict, retry_policy.Exhaust) else "nacked"
    if isinstance(verdict, retry_policy.RetryIn):
        level = logging.WARNING if verdict.counted else logging.INFO
        then = f"again in {verdict.wait_seconds:.0f} s"
    facts: dict[str, object] = {
        **place_of(event, pipeline),
        "step": task.name.removeprefix(STEP_PREFIX),
        "error": type(error).__name__,
        "attempt": lease.step_failures + 1,
        "then": then,
    }
    log_error(level, "step failed", error, facts)


def end_chain(task: Any) -> None:
    """Send nothing after this step."""
    task.request.chain = None
    task.request.callbacks = None
