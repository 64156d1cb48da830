"""The demo's pipeline: the shipped bulk mirror, in which every tenth event fails twice."""

from __future__ import annotations

import zlib
from typing import Final

from celery.canvas import Signature

from b24offline.events import LISTED_ENTITIES
from b24offline.pipeline import Chunk, Event, Failed, bulk_step, route, upsert_all

FAILS: Final = 2
"""How often an unlucky run fails before it succeeds."""
ONE_IN: Final = 10
CHUNK: Final = 50
"""Events that one message carries, at most: their objects are written by one SQL statement."""

ENTITIES: Final = ("CRMLEAD", "CRMDEAL", "CRMCONTACT", "CRMCOMPANY", "CRMDYNAMICITEM", "TASK")
EVENTS: Final = tuple(f"ON{entity}{action}" for entity in ENTITIES for action in ("ADD", "UPDATE", "DELETE"))


class OutOfLuck(Exception):
    """The error that the demo raises on purpose."""


def unlucky(run: str) -> bool:
    """Return whether this run fails: every tenth does, by its name, so that it fails on any worker."""
    return zlib.crc32(run.encode()) % ONE_IN == 0


@bulk_step(reads=True)
def mirror(chunk: Chunk) -> list[Failed]:
    """Mirror the objects of all events, then fail twice for every tenth run: it comes again, the others do not."""
    failed = upsert_all.run(chunk)
    bad_luck = OutOfLuck("this one fails on purpose")
    unlucky_works = (work for work in chunk if work.failures < FAILS and unlucky(work.idempotency_key))
    return [*failed, *(Failed(work.event, bad_luck) for work in unlucky_works)]


@route(*EVENTS, mirrors=LISTED_ENTITIES, bulk=CHUNK)
def demo_object_changed(event: Event) -> Signature:
    """Mirror the object, and fail now and then."""
    return mirror.s()
