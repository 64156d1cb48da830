"""Beat's entries: the tick for the polls of all portals, and the sweep for what is overdue."""

from __future__ import annotations

from typing import Any

from b24offline.contract import QUEUE_POLL, TASK_SWEEP, TASK_TICK
from b24offline.settings import config


def _entry(task: str, seconds: float) -> dict[str, Any]:
    # No expiry: a worker whose clock runs ahead would discard every entry. That none pile up while no worker reads is
    # seen to by the scheduler.
    return {"task": task, "schedule": seconds, "options": {"queue": QUEUE_POLL, "ignore_result": True}}


beat_schedule: dict[str, dict[str, Any]] = {
    "b24offline-tick": _entry(TASK_TICK, config.tick_seconds),
    "b24offline-sweep": _entry(TASK_SWEEP, config.timers.sweep_seconds),
}
"""Name of the entry -> task, seconds between two messages, and queue."""
