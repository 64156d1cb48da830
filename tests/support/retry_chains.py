"""Pipelines whose steps have their own retry rules; keys in the ledger's Redis say what a step does."""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature

from b24offline.events import Event, route
from b24offline.tasks.process import current_runtime
from b24offline.tasks.steps import Permanent, current, step

RUNS = "test:retries"
"""A list of ``<entity> <step> <attempt>``, one for each handler that began."""
MODE = "test:retry_mode"
"""A hash: entity -> value (ValueError) | key (KeyError) | type (TypeError) | permanent | the name of the only step
that fails by a ValueError; else the handlers work."""


def _do(name: str) -> None:
    work, redis = current(), current_runtime().redis
    entity = work.event.object.entity if work.event.object else ""
    redis.rpush(RUNS, f"{entity} {name} {work.attempt}")
    mode = redis.hget(MODE, entity)
    if mode in ("value", name):
        raise ValueError("as the test asked")
    if mode == "key":
        raise KeyError("as the test asked")
    if mode == "type":
        raise TypeError("as the test asked")
    if mode == "permanent":
        raise Permanent("as the test asked")


@step(attempts=3, backoff=(1, 2), final=LookupError)
def choosy(event: Event) -> dict[str, Any]:
    """Try three times, and never after a KeyError."""
    _do("choosy")
    return {}


@step
def plain(before: Any) -> dict[str, Any]:
    """Retry by the rules of the pipeline."""
    _do("plain")
    return {}


@step(attempts=2, backoff=3600)
def patient(before: Any) -> None:
    """Wait long before the second attempt."""
    _do("patient")


@step
def loose(event: Event) -> set[int]:
    """Return what JSON cannot encode."""
    _do("loose")
    return {1}


@route("ONCRMDEALUPDATE", attempts=20, backoff=900)
def deal_chosen(event: Event) -> Signature:
    """Rules that those of the step override."""
    return choosy.s()


@route("ONCRMLEADUPDATE", attempts=2)
def lead_tried(event: Event) -> Signature:
    """Rules for a step that has none."""
    return plain.s()


@route("ONCRMCONTACTUPDATE")
def contact_awaited(event: Event) -> Signature:
    """A second step that waits."""
    return plain.s() | patient.s()


@route("ONCRMCOMPANYUPDATE")
def company_lost(event: Event) -> Signature:
    """A result that cannot reach the second step."""
    return loose.s() | plain.s()


@route("ONTASKUPDATE")
def task_careless(event: Event) -> Signature:
    """A result that the second step does not take."""
    return loose.s() | plain.si({})
