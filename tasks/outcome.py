"""Outcomes that arrive as messages: after a step of another application, and after a crash."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from b24offline import contract
from b24offline.settings import config
from b24offline.tasks.chunk_messages import refs_of
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import follow, publish, send


@shared_task(name=contract.TASK_SUCCEEDED)
def succeeded(portal: str, run: str, attempt: int) -> str:
    """Record that the last step of a run succeeded in another application."""
    services = current_runtime().services(portal)
    completion = services.ledger.succeed(run, attempt)
    follow(services, completion)
    return "recorded" if completion.recorded else "known before"


@shared_task(name=contract.TASK_FAILED)
def failed(*_: Any, portal: str, run: str, attempt: int) -> str:
    """Record that a step ended without an outcome: its process died, it was too slow, or it ran in another application.

    Celery passes ``(request, exception, traceback)`` where this task is known, and the task's id where it is not. A run
    whose outcome is recorded does not change.
    """
    services = current_runtime().services(portal)
    completion = services.ledger.crash(run, attempt, backoff_seconds=config.timers.step_backoff_seconds[0])
    follow(services, completion)
    return "counted" if completion.recorded else "known before"


@shared_task(name=contract.TASK_CHUNK_FAILED)
def chunk_failed(*_: Any, portal: str, pipeline: str, runs: list[tuple[str, int]]) -> str:
    """Record that a chunk ended without outcomes, as `failed` does for a run: each of its runs comes again alone."""
    services = current_runtime().services(portal)
    backoff = config.timers.step_backoff_seconds[0]
    ended = services.chunks.crash(refs_of(pipeline, runs), backoff_seconds=backoff)
    send(services, (), ended.settleable)
    publish(services, ended.next)
    return f"counted {len(ended.recorded)}"
