"""The names that the world outside may rely on: tasks, queues, message headers, schema versions.

A host addresses this deployment by these names only, never by import. Renaming one is a breaking change.
"""

from __future__ import annotations

from typing import Final

LEDGER_SCHEMA: Final = 1
"""Version of the keys in Redis. Nothing compares it yet: empty the ledger before going back to an older version."""

QUEUE_POLL: Final = "b24offline.poll"
"""Beat's entries and everything that talks to a portal's queue but settling."""
QUEUE_EVENTS: Final = "b24offline.events"
"""Dispatch and the steps of the runs."""
QUEUE_SETTLE: Final = "b24offline.settle"
"""Outcomes and settling; kept apart so that a flood of events cannot delay an acknowledgement."""
QUEUES: Final = (QUEUE_POLL, QUEUE_EVENTS, QUEUE_SETTLE)

TASK_TICK: Final = "b24offline.tick"
TASK_BIND: Final = "b24offline.bind"
TASK_POLL: Final = "b24offline.poll"
TASK_DISPATCH: Final = "b24offline.dispatch"
TASK_SUCCEEDED: Final = "b24offline.outcome.succeeded"
TASK_FAILED: Final = "b24offline.outcome.failed"
TASK_SETTLE: Final = "b24offline.settle"
TASK_SWEEP: Final = "b24offline.sweep"
TASK_ADOPT: Final = "b24offline.adopt"
TASK_REDRIVE: Final = "b24offline.redrive"

STEP_PREFIX: Final = "b24offline.step."
"""Every shipped step is named with this; so a row in Flower tells a step from the machinery."""

HEADER_WORK: Final = "b24offline"
"""Message header of a step: portal, run, attempt, position and event, as a flat map (no customer data)."""
