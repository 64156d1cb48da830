"""A pipeline beside the others that mirrors as the shipped ones do, so that reconciliation has something to compare."""

from __future__ import annotations

from celery.canvas import Signature

from b24offline.events import LISTED_ENTITIES, Event, route
from b24offline.tasks import mirror, objects
from tests.faults.chains import TRACKED


@route(*TRACKED, mirrors=LISTED_ENTITIES)
def mirrored(event: Event) -> Signature:
    """Return every event of every entity."""
    return objects.fetch.s() | mirror.upsert.s()
