"""The steps that keep a SQL copy of the portals' objects: one object at a time, or those of a chunk together."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from b24offline.delivery import Failed
from b24offline.errors import LedgerClockBehind
from b24offline.events import changed_at
from b24offline.store import Reading
from b24offline.tasks.bulk import Chunk, bulk_step
from b24offline.tasks.objects import load
from b24offline.tasks.process import current_runtime
from b24offline.tasks.steps import current, step

if TYPE_CHECKING:
    from b24offline.ledger import Snapshot


@step
def upsert(reference: dict[str, Any]) -> dict[str, Any]:
    """Write the object into the table `objects`, or mark it as deleted. The later read wins."""
    reading = _reading(load(reference))
    table, portal = current_runtime().mirror, current().portal
    if not table.write(portal, [reading]):
        table.refuse_clock_behind(portal, *reading.key, now_ms=current().now_ms())
    return reference


@bulk_step(reads=True)
def upsert_all(chunk: Chunk) -> list[Failed]:
    """Read the objects of all events and write them into the table `objects`, as `upsert` does, by one statement."""
    reads = chunk.read()
    failed = list(reads.failed)
    table = current_runtime().mirror
    readings = [(work, _reading(snapshot)) for work, snapshot in reads.found]
    stored = table.write(chunk.portal, (reading for _, reading in readings))
    for work, reading in readings:
        if reading.key not in stored:
            try:
                table.refuse_clock_behind(chunk.portal, *reading.key, now_ms=chunk.now_ms())
            except LedgerClockBehind as error:
                failed.append(Failed(work.event, error))
    return failed


def _reading(snapshot: Snapshot) -> Reading:
    key = snapshot.object
    changed = changed_at(key.entity, snapshot.data)
    moment = datetime.fromisoformat(changed) if changed else None
    return Reading(key.entity, key.object_id, snapshot.data, snapshot.read_ms, moment)
