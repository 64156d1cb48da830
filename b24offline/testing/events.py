"""Events for tests, made as the portal's records are: a name and an id are enough."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

from b24offline.events import Event, event_from_record, object_id_from, parse_record, shipped_catalogue

PORTAL: Final = "acme"


def event(
    name: str,
    object_id: str | int | None = None,
    *,
    data: Any = None,
    portal: str = PORTAL,
    user_id: int = 1,
    record_id: int = 1,
    nacked: bool = False,
) -> Event:
    """Return the event of a name and an object's id (`7`, or `1046:7` for an item of a smart process).

    ``data`` is the payload, where it has more than the id or another form. Raise ValueError for a name that is not in
    the catalogue, or a payload that does not point to the object.
    """
    kind = shipped_catalogue().lookup(name)
    if kind is None:
        raise ValueError(f"{name} is no event of a portal. Look it up: b24offline/events/catalogue.csv")
    wanted = None if object_id is None else str(object_id)
    if data is None and wanted is not None:
        data = _payload(kind.id_path, wanted)
    if wanted is not None and object_id_from(data, kind) != wanted:
        raise ValueError(
            f"The payload of {name} does not point to {wanted}: its id is at {kind.id_path or 'no place'}."
        )
    raw = {
        "ID": str(record_id),
        "TIMESTAMP_X": datetime.now(UTC).isoformat(timespec="seconds"),
        "EVENT_NAME": kind.name,
        "EVENT_DATA": data,
        "EVENT_ADDITIONAL": {"user_id": str(user_id)},
        "MESSAGE_ID": hashlib.md5(json.dumps([kind.name, data]).encode(), usedforsecurity=False).hexdigest(),
    }
    return event_from_record(portal, parse_record(raw, nacked=nacked), shipped_catalogue())


def _payload(id_path: str, object_id: str) -> dict[str, Any]:
    """Return maps that hold each part of an id at its path."""
    payload: dict[str, Any] = {}
    for path, part in zip(id_path.split("+"), object_id.split(":"), strict=False):
        *heads, last = path.split(".")
        node = payload
        for head in heads:
            node = node.setdefault(head, {})
        node[last] = part
    return payload
