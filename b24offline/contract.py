"""The public names of a deployment: tasks, queues, message headers, schema versions.

Other applications address this deployment by these names only, never by import. Renaming one is a breaking change.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("b24offline")
"""The version of this program; it stands in `pyproject.toml` only."""

LEDGER_SCHEMA: Final = 1
"""Version of the ledger's layout in Redis, stored with each portal.

A process works on its own schema only, and refuses to start where it finds another one. Raise the number with any
change of a key, of a field, or of its meaning.
"""

QUEUE_POLL: Final = "b24offline.poll"
"""Beat's entries, and all calls to a portal's queue except settling."""
QUEUE_EVENTS: Final = "b24offline.events"
"""Dispatch and the steps of the runs."""
QUEUE_SETTLE: Final = "b24offline.settle"
"""Outcomes and settling; kept apart so that a flood of events cannot delay an acknowledgement."""
QUEUES: Final = (QUEUE_POLL, QUEUE_EVENTS, QUEUE_SETTLE)
EXCHANGE: Final = "b24offline.tasks"
"""On RabbitMQ with quorum queues: the topic exchange that routes a message to the queue named by its routing key, so
that a sender need not declare the queue, nor know its type."""

TASK_TICK: Final = "b24offline.tick"
TASK_BIND: Final = "b24offline.bind"
TASK_POLL: Final = "b24offline.poll"
TASK_DISPATCH: Final = "b24offline.dispatch"
TASK_SUCCEEDED: Final = "b24offline.outcome.succeeded"
TASK_FAILED: Final = "b24offline.outcome.failed"
TASK_CHUNK_FAILED: Final = "b24offline.outcome.chunk_failed"
TASK_SETTLE: Final = "b24offline.settle"
TASK_SWEEP: Final = "b24offline.sweep"
TASK_ADOPT: Final = "b24offline.adopt"
TASK_REDRIVE: Final = "b24offline.redrive"
TASK_RECONCILE: Final = "b24offline.reconcile"
TASK_INJECT: Final = "b24offline.inject"

STEP_PREFIX: Final = "b24offline.step."
"""Prefix of the names of the shipped steps; it tells them from the other tasks in Flower."""

HEADER_WORK: Final = "b24offline"
"""Message header of a step: portal, run, attempt, position and event, as a flat map (no customer data)."""
