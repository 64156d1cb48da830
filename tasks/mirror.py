"""The step that keeps a SQL copy of the portals' objects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from b24offline.events import changed_at
from b24offline.tasks.objects import load
from b24offline.tasks.process import current_runtime
from b24offline.tasks.steps import current, step


@step
def upsert(reference: dict[str, Any]) -> dict[str, Any]:
    """Write the object into the table `objects`, or mark it as deleted. The later read wins."""
    snapshot = load(reference)
    key, read_ms = snapshot.object, snapshot.read_ms
    table = current_runtime().mirror
    moment = datetime.fromtimestamp(read_ms / 1000, UTC)
    if snapshot.data is None:
        stored = table.mark_deleted(key.portal, key.entity, key.object_id, at=moment, read_at=read_ms)
    else:
        changed = changed_at(key.entity, snapshot.data)
        at = datetime.fromisoformat(changed) if changed else moment
        stored = table.upsert(key.portal, key.entity, key.object_id, snapshot.data, changed_at=at, read_at=read_ms)
    if not stored:
        table.refuse_clock_behind(key.portal, key.entity, key.object_id, now_ms=current().now_ms())
    return reference
