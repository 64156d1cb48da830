"""Tasks of projects, mirrored."""

from __future__ import annotations

from celery.canvas import Signature

from b24offline.pipeline import Event, fetch, route, upsert


@route("ONTASKADD", "ONTASKUPDATE", "ONTASKDELETE", mirrors="task", fused=True)
def task_changed(event: Event) -> Signature:
    """Mirror a task that was added, changed or deleted."""
    return fetch.s() | upsert.s()
