"""Messages about batches of a newer version: sent once more, so that a worker of that version may get them."""

from __future__ import annotations

from typing import Any

from celery import Task

from b24offline.settings import config

LEFT = "left to a newer version"


def pass_by(task: Task, title: str = "") -> str:
    """Puts the message that ``task`` runs for back into its queue, some times with growing waits, then lets it go.

    While two versions run side by side, each gets about its share of the messages. What is let go is found overdue by
    the newer version's sweep. Raises Celery's ``Retry``, or answers what the task may return. ``title`` is what Flower
    shows.
    """
    waits = config.timers.step_backoff_seconds
    if task.request.retries >= len(waits):
        task.request.chain = None
        task.request.callbacks = None
        return LEFT
    shown: dict[str, Any] = {"argsrepr": title, "kwargsrepr": ""} if title else {}
    raise task.retry(countdown=waits[task.request.retries], max_retries=None, throw=False, **shown)
