"""Tasks of projects, mirrored."""

from __future__ import annotations

from celery.canvas import Signature

from b24offline.pipeline import Event, route, upsert_all


@route("ONTASKADD", "ONTASKUPDATE", "ONTASKDELETE", mirrors="task", bulk=50)
def task_changed(event: Event) -> Signature:
    """Mirror a task that was added, changed or deleted."""
    return upsert_all.s()
