"""What the handlers of the fault runs do: they write into the journal, and fail as a row asked.

Imported by the workers, with the pipelines of a row, never by a row.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_task, signals
from celery.exceptions import Reject

from b24offline.events import routes, stamp_seconds
from b24offline.tasks.celery_app import app
from b24offline.tasks.steps import Permanent, Work, current
from tests.faults import next_version, sabotage
from tests.faults.journal import COPIES, FUSED, HARD_LIMIT, SOFT_LIMIT, VISIBILITY, Journal

if VISIBILITY in os.environ:
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        "visibility_timeout": float(os.environ[VISIBILITY]),
    }

if FUSED in os.environ:
    routes.is_fused = lambda _: random.random() < float(os.environ[FUSED])  # type: ignore[method-assign]

if SOFT_LIMIT in os.environ:
    app.conf.task_soft_time_limit = float(os.environ[SOFT_LIMIT])
if HARD_LIMIT in os.environ:
    app.conf.task_soft_time_limit, app.conf.task_time_limit = None, float(os.environ[HARD_LIMIT])
if sabotage.VARIABLE in os.environ:
    sabotage.GUARDS[os.environ[sabotage.VARIABLE]](setattr)
if next_version.VARIABLE in os.environ:
    next_version.pretend()
if step_of_store := os.environ.get(next_version.STORE_VARIABLE):
    next_version.pretend_store(step_of_store)

_journals: dict[int, Journal] = {}


def journal() -> Journal:
    """Return the journal, with a connection of this process."""
    pid = os.getpid()
    if pid not in _journals:
        _journals[pid] = Journal.of_environment()
    return _journals[pid]


def started(work: Work, run: str, *, last: bool) -> str:
    """Note that a step begins with an event. Return the span. ``run``: another one for each handing out of the run."""
    name = work.event.object
    return journal().start(
        portal=work.portal,
        entity=name.entity if name else "",
        object=name.object_id if name else "",
        delivery=f"{work.event.record_id}@{stamp_seconds(work.event.stamp)}",
        pipeline=work.pipeline,
        run=run,
        attempt=work.attempt,
        key=work.idempotency_key,
        clock=time.time(),
        last=last,
        pid=os.getpid(),
    )


@contextmanager
def noted(*, last: bool) -> Iterator[str]:
    """Write the span of this step."""
    span = started(current(), current_task.request.root_id, last=last)
    try:
        yield span
    except Exception:
        journal().end(span, ok=False)
        raise
    journal().end(span)


def behave(word: str, argument: float) -> None:
    """What goes wrong in a handler."""
    if word == "slow":
        time.sleep(argument)
    elif word == "fail":
        raise ValueError("fails as the row asked")
    elif word == "permanent":
        raise Permanent("never works, as the row asked")
    elif word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "segv":
        ctypes.string_at(0)
    elif word == "exit":
        sys.exit(3)
    elif word == "retry":
        raise current_task.retry(countdown=0.5, max_retries=None)
    elif word == "reject":
        raise Reject("not now", requeue=True)
    elif word == "loop":
        while True:
            pass
    elif word == "hang":
        time.sleep(3600)


@signals.after_task_publish.connect
def _send_again(sender: Any = None, headers: Any = None, body: Any = None, **reply: Any) -> None:
    copies = int(os.environ.get(COPIES, "1"))
    if copies == 1:
        return
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(copies - 1):
            producer.publish(
                body,
                headers=headers,
                exchange=reply["exchange"],
                routing_key=reply["routing_key"],
                serializer="json",
                correlation_id=headers["id"],
            )
    journal().copied(copies - 1)
