"""The demo's pipeline: the shipped one, with a step in the middle that fails twice for every tenth event."""

from __future__ import annotations

import zlib
from typing import Any, Final

from celery.canvas import Signature

from b24offline.events import LISTED_ENTITIES
from b24offline.pipeline import Event, current, fetch, route, step, upsert

FAILS: Final = 2
"""How often an unlucky run fails before it succeeds."""
ONE_IN: Final = 10

ENTITIES: Final = ("CRMLEAD", "CRMDEAL", "CRMCONTACT", "CRMCOMPANY", "CRMDYNAMICITEM", "TASK")
EVENTS: Final = tuple(f"ON{entity}{action}" for entity in ENTITIES for action in ("ADD", "UPDATE", "DELETE"))


class OutOfLuck(Exception):
    """The error that the demo raises on purpose."""


def unlucky(run: str) -> bool:
    """Return whether this run fails: every tenth does, by its name, so that it fails on any worker."""
    return zlib.crc32(run.encode()) % ONE_IN == 0


@step
def trouble(reference: dict[str, Any]) -> dict[str, Any]:
    """Fail twice for every tenth run, then pass the reference on."""
    work = current()
    if work.failures < FAILS and unlucky(work.idempotency_key):
        raise OutOfLuck("this one fails on purpose")
    return reference


@route(*EVENTS, mirrors=LISTED_ENTITIES)
def demo_object_changed(event: Event) -> Signature:
    """Fetch the object, fail now and then, and write the object into the mirror."""
    return fetch.s() | trouble.s() | upsert.s()
