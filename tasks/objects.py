"""The step that reads an object. It returns a reference; the object itself never travels in a message."""

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
    """Read the event's object as it is now. Return its reference, with which a later step can `load` the object.

    A deleted object is read, too: an id can be used again, such as that of a currency or an address.
    """
    key = event.object
    work = current()
    if key is None:
        raise Permanent(f"portal {event.portal}: {event.name} points to no object; leave fetch out of its pipeline")
    began_ms = work.now_ms()
    try:
        snapshot = work.read(key)
    except _UNREADABLE as error:
        if not tells_of_deletion(event, error):
            raise
        return _reference(key, read_ms=began_ms, gone=True)
    return _reference(key, read_ms=snapshot.read_ms, gone=snapshot.data is None)


def tells_of_deletion(event: Event, error: Exception) -> bool:
    """Return whether an object counts as gone: the portal lets nobody read it, so the event is all that is known."""
    return event.action == "delete" and isinstance(error, _UNREADABLE)


def load(reference: dict[str, Any]) -> Snapshot:
    """Return the object of a reference that `fetch` returned, read again if it is not cached any more."""
    work = current()
    key = ObjectKey(work.portal, str(reference["entity"]), str(reference["object_id"]))
    if reference["gone"]:
        return Snapshot(key, int(reference["read_ms"]), None)
    return work.read(key, not_before_ms=int(reference["read_ms"]))


def _reference(key: ObjectKey, *, read_ms: int, gone: bool) -> dict[str, Any]:
    return {"entity": key.entity, "object_id": key.object_id, "read_ms": read_ms, "gone": gone}
