"""The pipelines that are measured. Which one runs says the environment, so that all have the same events."""

from __future__ import annotations

import os

from celery.canvas import Signature

from b24offline.pipeline import Event, fetch, route, step
from benchmarks import steps

PIPELINE_VARIABLE = "BENCH_PIPELINE"
CHANGED = "ONCRMDEALUPDATE"


@step
def first(event: Event) -> object:
    """Pass on which object has changed."""
    return steps.first(event.object.object_id if event.object else None)


@step
def second(reference: object) -> object:
    """Note that the event was handled."""
    return steps.second(reference)


def chain_of_two(event: Event) -> Signature:
    """Do two steps that need no object."""
    return first.s() | second.s()


def read_and_note(event: Event) -> Signature:
    """Read the object, then do one step."""
    return fetch.s() | second.s()


PIPELINES = {
    "chain": (chain_of_two, False),
    "fused": (chain_of_two, True),
    "read": (read_and_note, True),
}
"""Name -> pipeline, and whether it is fused."""

if PIPELINE_VARIABLE in os.environ:
    chosen, fused = PIPELINES[os.environ[PIPELINE_VARIABLE]]
    route(CHANGED, name=os.environ[PIPELINE_VARIABLE], fused=fused)(chosen)
