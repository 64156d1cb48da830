"""Steps that read objects. They hand on a reference; the object itself never travels in a message."""

from __future__ import annotations

from typing import Any, Final

from b24offline.contract import STEP_PREFIX
from b24offline.event import Event, ObjectKey
from b24offline.snapshots import Snapshot
from tasks.base import Permanent, current, step

FETCH: Final = f"{STEP_PREFIX}objects.fetch"


@step
def fetch(event: Event) -> dict[str, Any]:
    """Reads the event's object as it is now. Answers its reference; `load` gives the object to a later step."""
    key = event.object
    work = current()
    if key is None:
        raise Permanent(f"portal {event.portal}: {event.name} points to no object; leave objects.fetch out")
    if event.action == "delete":
        return _reference(key, read_ms=work.now_ms(), gone=True)
    snapshot = work.read(key)
    return _reference(key, read_ms=snapshot.read_ms, gone=snapshot.data is None)


def load(reference: dict[str, Any]) -> Snapshot:
    """The object behind a reference that `fetch` answered; read again when it waited too long."""
    work = current()
    key = ObjectKey(work.portal, str(reference["entity"]), str(reference["object_id"]))
    if reference["gone"]:
        return Snapshot(key, int(reference["read_ms"]), None)
    return work.read(key, not_before_ms=int(reference["read_ms"]))


def _reference(key: ObjectKey, *, read_ms: int, gone: bool) -> dict[str, Any]:
    return {"entity": key.entity, "object_id": key.object_id, "read_ms": read_ms, "gone": gone}
