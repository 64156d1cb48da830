"""What a module of pipelines imports, all from one place.

`route` names the events, `step` makes a step of a function, `current` says what a step works for. `fetch` reads an
event's object, `load` gives it to a later step, `upsert` mirrors it. `handoff` is a step that another Celery
application runs. `bulk_step` makes a step of a bulk pipeline, which answers with `Failed` events of its `Chunk`.
"""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature, signature

from b24offline.delivery import Failed, Permanent, SomeFailed
from b24offline.events import Event, ObjectKey, route
from b24offline.tasks.bulk import Chunk, bulk_step
from b24offline.tasks.mirror import upsert, upsert_all
from b24offline.tasks.objects import fetch, load
from b24offline.tasks.steps import current, step

__all__ = [
    "Chunk",
    "Event",
    "Failed",
    "ObjectKey",
    "Permanent",
    "SomeFailed",
    "bulk_step",
    "current",
    "fetch",
    "handoff",
    "load",
    "route",
    "step",
    "upsert",
    "upsert_all",
]


def handoff(name: str, /, *args: Any, queue: str, **kwargs: Any) -> Signature[Any]:
    """Return the step that another Celery application on our broker runs: its task by name, the queue that it reads.

    The queue must be named in `B24_EXTERNAL_QUEUES`. The result before it, or the event as a map, comes before
    ``args``.
    """
    step_elsewhere: Signature[Any] = signature(name, args=args, kwargs=kwargs, queue=queue)
    return step_elsewhere
