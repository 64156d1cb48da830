"""Steps that read objects. They hand on a reference; the object itself never travels in a message."""

from __future__ import annotations

from typing import Any, Final

from b24offline.delivery import NotReadable
from b24offline.errors import AccessDenied, BadRequest, InsufficientScope, MethodNotFound, RefusedByMethod
from b24offline.events import Event, ObjectKey
from b24offline.ledger import Snapshot
from b24offline.tasks.steps import Permanent, current, step

_UNREADABLE: Final = (
    NotReadable,
    AccessDenied,
    BadRequest,
    InsufficientScope,
    MethodNotFound,
    RefusedByMethod,
)


@step
def fetch(event: Event) -> dict[str, Any]:
    """Read the event's object as it is now. Return its reference; `load` gives the object to a later step.

    A deletion is read, too: an id may come again (a currency's, an address's), and its event be the last to run.
    """
    key = event.object
    work = current()
    if key is None:
        raise Permanent(f"portal {event.portal}: {event.name} points to no object; leave objects.fetch out")
    began_ms = work.now_ms()
    try:
        snapshot = work.read(key)
    except _UNREADABLE:
        # Where the portal lets nobody read it, the event is all there is to believe.
        if event.action != "delete":
            raise
        return _reference(key, read_ms=began_ms, gone=True)
    return _reference(key, read_ms=snapshot.read_ms, gone=snapshot.data is None)


def load(reference: dict[str, Any]) -> Snapshot:
    """Return the object behind a reference that `fetch` answered; read again when it waited too long."""
    work = current()
    key = ObjectKey(work.portal, str(reference["entity"]), str(reference["object_id"]))
    if reference["gone"]:
        return Snapshot(key, int(reference["read_ms"]), None)
    return work.read(key, not_before_ms=int(reference["read_ms"]))


def _reference(key: ObjectKey, *, read_ms: int, gone: bool) -> dict[str, Any]:
    return {"entity": key.entity, "object_id": key.object_id, "read_ms": read_ms, "gone": gone}
