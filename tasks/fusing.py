"""Which step of a fused pipeline goes on in the message of the step before it.

One that needs no queue, wait, time limit or message headers of its own. The others, and those of other applications,
come by message as in any pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from celery._state import _task_stack  # type: ignore[attr-defined] # the stubs lack it
from celery.app.task import Context

from b24offline.contract import HEADER_WORK
from b24offline.tasks.celery_app import app, queue_of_address
from b24offline.tasks.chains import StepHeader

_PLAIN: Final = frozenset({"queue", "task_id", "root_id", "headers", "argsrepr", "kwargsrepr", "link_error"})
"""What each step of a run has in its options."""
LIMIT_SHARE: Final = 0.1
"""Part of the time limit after which no further step begins in the same message: each has nine tenths for itself."""


@dataclass(frozen=True, slots=True)
class Follower:
    """The next step of a run, as its message would have brought it."""

    task: Any
    header: StepHeader
    signature: Mapping[str, Any]

    @contextmanager
    def entered(self, request: Any, passed: tuple[Any, ...]) -> Iterator[Any]:
        """Make it Celery's current task, with the request that its message would have brought; yield the request.

        ``request`` is that of the step before; what is left of its chain is the follower's. ``passed``: the arguments
        that the step before adds.
        """
        options = self.signature["options"]
        own = Context(
            vars(request),
            id=options["task_id"],
            task=self.task.name,
            args=(*passed, *self.signature["args"]),
            kwargs=dict(self.signature["kwargs"]),
            retries=0,
            parent_id=request.id,
            headers=options["headers"],
            errbacks=options["link_error"],
            chain=list(request.chain[:-1]),
            **{HEADER_WORK: options["headers"][HEADER_WORK]},
        )
        _task_stack.push(self.task)
        self.task.request_stack.push(own)
        try:
            yield own
        finally:
            self.task.request_stack.pop()
            _task_stack.pop()


def follower_of(request: Any, header: StepHeader) -> Follower | None:
    """Return the step that may go on in the message of this request, None where it has to have its own. Pure."""
    signature = request.chain[-1]
    options = signature["options"]
    task: Any = app.tasks.get(signature["task"])
    if not getattr(task, "records_outcome", False) or not options.keys() <= _PLAIN:
        return None
    if options.get("queue") != queue_of_address((request.delivery_info or {}).get("routing_key")):
        return None
    headers = options.get("headers") or {}
    found = StepHeader.from_header(headers.get(HEADER_WORK) or {})
    if len(headers) != 1 or found is None or (found.run, found.attempt) != (header.run, header.attempt):
        return None
    return Follower(task, found, signature)
