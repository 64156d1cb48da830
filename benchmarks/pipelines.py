"""The pipelines that are measured. Which one runs says the environment, so that all have the same events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.canvas import Signature

from b24offline.pipeline import Chunk, Event, bulk_step, fetch, route, step
from benchmarks import steps

PIPELINE_VARIABLE = "BENCH_PIPELINE"
CHANGED = "ONCRMDEALUPDATE"
WAIT_SECONDS = 0.05
"""How long a step waits that asks another system."""
AT_A_TIME = 25
"""Events of a chunk that wait side by side."""


@step
def first(event: Event) -> object:
    """Pass on which object has changed."""
    return steps.first(event.object.object_id if event.object else None)


@step
def second(reference: object) -> object:
    """Note that the event was handled."""
    return steps.second(reference)


@bulk_step
def both(chunk: Chunk) -> None:
    """Do both steps for each event of a chunk."""
    for work in chunk:
        steps.first(work.event.object.object_id if work.event.object else None)
    steps.note_done(len(chunk))


@step
def waits(event: Event) -> None:
    """Wait as for the answer of another system."""
    del event
    time.sleep(WAIT_SECONDS)
    steps.note_done()


@bulk_step
def wait_side_by_side(chunk: Chunk) -> None:
    """Wait so for each event of a chunk, for many of them at a time."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(lambda _: time.sleep(WAIT_SECONDS), chunk))
    steps.note_done(len(chunk))


def chain_of_two(event: Event) -> Signature:
    """Do two steps that need no object."""
    return first.s() | second.s()


def read_and_note(event: Event) -> Signature:
    """Read the object, then do one step."""
    return fetch.s() | second.s()


def in_bulk(event: Event) -> Signature:
    """Do both steps for many events at once."""
    return both.s()


def waiting(event: Event) -> Signature:
    """Do one step that waits."""
    return waits.s()


def waiting_in_bulk(event: Event) -> Signature:
    """Do that for many events at once."""
    return wait_side_by_side.s()


PIPELINES: dict[str, tuple[Callable[[Event], Signature], dict[str, Any]]] = {
    "chain": (chain_of_two, {}),
    "fused": (chain_of_two, {"fused": True}),
    "read": (read_and_note, {"fused": True}),
    "bulk-50": (in_bulk, {"bulk": 50}),
    "bulk-200": (in_bulk, {"bulk": 200}),
    "waiting": (waiting, {"fused": True}),
    "waiting-bulk": (waiting_in_bulk, {"bulk": 50}),
}
"""Name -> pipeline, and the options of its route."""

if PIPELINE_VARIABLE in os.environ:
    chosen, options = PIPELINES[os.environ[PIPELINE_VARIABLE]]
    route(CHANGED, name=os.environ[PIPELINE_VARIABLE], **options)(chosen)
