"""Tasks of projects, mirrored."""

from __future__ import annotations

from celery.canvas import Signature

from b24offline.event import Event
from b24offline.routing import route
from b24offline.tasks import mirror, objects


@route("ONTASKADD", "ONTASKUPDATE", "ONTASKDELETE")
def task_changed(event: Event) -> Signature:
    """A task was added, changed or deleted."""
    return objects.fetch.s() | mirror.upsert.s()
