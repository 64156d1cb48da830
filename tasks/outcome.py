"""Outcomes that arrive as messages or callbacks: after a step of another stack, and after a death."""

from __future__ import annotations

from typing import Any

from celery import shared_task

from b24offline import contract
from b24offline.settings import config
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import follow


@shared_task(name=contract.TASK_SUCCEEDED)
def succeeded(portal: str, run: str, attempt: int) -> str:
    """Return the last step of a run succeeded in another stack."""
    services = current_runtime().services(portal)
    reply = services.ledger.succeed(run, attempt)
    follow(services, reply)
    return "recorded" if reply.recorded else "known before"


@shared_task(name=contract.TASK_FAILED)
def failed(*_: Any, portal: str, run: str, attempt: int) -> str:
    """Return a step ended without recording: its process died, it was too slow, or it ran in another stack.

    Called as ``(request, exception, traceback)`` where this task is known, and with the task's id where it is not. A
    run whose outcome was recorded is not touched.
    """
    services = current_runtime().services(portal)
    reply = services.ledger.crash(run, attempt, backoff_seconds=config.timers.step_backoff_seconds[0])
    follow(services, reply)
    return "counted" if reply.recorded else "known before"
