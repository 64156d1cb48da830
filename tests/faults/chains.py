"""Pipelines of the fault runs: each execution of a step is written into the journal, and fails as a row asked.

Imported by the workers (`B24_PIPELINES`), never by a row.
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
from celery.canvas import Signature
from celery.exceptions import Reject

from b24offline.events import Event, routes, stamp_seconds
from b24offline.pipeline import handoff, route
from b24offline.tasks import mirror, objects
from b24offline.tasks.celery_app import app
from b24offline.tasks.steps import Permanent, current, step
from tests.faults import next_version, sabotage
from tests.faults.evidence import fingerprint
from tests.faults.journal import CHEAP, COPIES, COUNTED, FUSED, HARD_LIMIT, SOFT_LIMIT, TRACKED, VISIBILITY, Journal

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


@contextmanager
def noted(*, last: bool) -> Iterator[str]:
    """Write the span of this step."""
    work = current()
    name = work.event.object
    span = journal().start(
        portal=work.portal,
        entity=name.entity if name else "",
        object=name.object_id if name else "",
        delivery=f"{work.event.record_id}@{stamp_seconds(work.event.stamp)}",
        pipeline=work.pipeline,
        run=current_task.request.root_id,
        attempt=work.attempt,
        key=work.idempotency_key,
        clock=time.time(),
        last=last,
        pid=os.getpid(),
    )
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


_fetch = objects.fetch.run


def fetch_noted(event: Event) -> dict[str, Any]:
    """Return the shipped first step, with its span: bulk reads are made for pipelines that have it, so it must be that
    one."""
    cheap = CHEAP in os.environ
    with noted(last=cheap) as span:
        reference: dict[str, Any] = _fetch(event)
        if cheap:
            journal().effect(span, fingerprint(objects.load(reference).data))
        word, _ = journal().mode(f"first {reference['entity']} {reference['object_id']}", alone=True)
        return object() if word == "unserializable" else reference  # type: ignore[return-value]


objects.fetch.run = fetch_noted


@step
def work(reference: dict[str, Any]) -> Any:
    """Have its effect on what the object is now, and mirrors it."""
    with noted(last=True) as span:
        word, argument = journal().mode(f"{reference['entity']} {reference['object_id']}")
        after = word.removesuffix("_after") if word.endswith("_after") else ""
        if not after:
            behave(word, argument)
        journal().effect(span, fingerprint(objects.load(reference).data))
        mirror.upsert.run(reference)
        if after:
            behave(after, argument)
        return object() if word == "unserializable" else reference


@step
def count(event: Event) -> None:
    """One step, which needs no object."""
    with noted(last=True) as span:
        journal().effect(span, "")


@route(*TRACKED)
def tracked(event: Event) -> Signature:
    """Return every event of every entity."""
    return objects.fetch.s() if CHEAP in os.environ else objects.fetch.s() | work.s()


@route(*COUNTED)
def counted(event: Event) -> Signature:
    """Return a second pipeline of the same event."""
    return count.s()


@route("ONCRMDEALMOVETOCATEGORY")
def announced(event: Event) -> Signature:
    """Given to another stack, and finished here."""
    return objects.fetch.s() | handoff("shop.announce", queue="shop") | work.s()


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
