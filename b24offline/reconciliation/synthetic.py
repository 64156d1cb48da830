"""Events without a record: an object is run although the portal's queue says nothing of it.

A *synthetic batch* lives in the ledger alone. Its process id has a character that no process id of a portal may have,
and its record ids are negative, so that no call of the queue can be built for it. Its runs use the same object queues,
leases and attempts as all others; one that fails is retried, and dead-lettered in the end, since there is no record
to nack. Drawn in `docs/reconciliation.md`.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from b24offline.events import JSON, Event, ObjectKey, object_id_from
from b24offline.ledger import SYNTHETIC_PREFIX, BatchKind, Entry, is_synthetic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from b24offline.delivery import PortalContext
    from b24offline.events import Catalogue, EventKind, Routes

_BASE: Final = 2**53
"""Record ids are microseconds of the ledger's clock less this: negative, growing, and exact in Lua's numbers."""
_TYPED: Final = "{ENTITYTYPEID}"
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def payload_of(kind: EventKind, object_id: str) -> JSON:
    """Return what the portal would send with an event of this kind about an object, as far as its id goes.

    None when the id has another number of parts than the kind.
    """
    paths = kind.id_path.split("+") if kind.id_path else []
    parts = object_id.split(":") if len(paths) > 1 else [object_id]
    if len(paths) != len(parts):
        return None
    payload: JSON = None
    for path, part in zip(paths, parts, strict=True):
        steps = [] if path == "." else [index or name for name, index in _STEP.findall(path)]
        payload = _with(payload, steps, part)
    return payload


def _with(tree: JSON, steps: list[str], value: str) -> JSON:
    if not steps:
        return value
    head, rest = steps[0], steps[1:]
    if head.isdigit():
        return [_with(tree[0] if isinstance(tree, list) and tree else None, rest, value)]
    inside: dict[str, JSON] = dict(tree) if isinstance(tree, dict) else {}
    inside[head] = _with(inside.get(head), rest, value)
    return inside


def update_events(entity: str, object_id: str, catalogue: Catalogue, routes: Routes) -> Iterator[str]:
    """Name of update events of an object that have a route, the narrowest first."""
    for kind in sorted(catalogue.kinds, key=lambda kind: _TYPED not in kind.name):
        if kind.entity != entity or kind.action != "update":
            continue
        name = kind.name.replace(_TYPED, object_id.partition(":")[0])
        if name in routes.event_names and event_fits(name, object_id, entity, catalogue):
            yield name


def event_fits(name: str, object_id: str, entity: str, catalogue: Catalogue) -> bool:
    """Return whether an event of this name can point to that object."""
    kind = catalogue.lookup(name)
    if kind is None or kind.entity != entity:
        return False
    return object_id_from(payload_of(kind, object_id), kind) == object_id


def synthetic_event(name: str, key: ObjectKey, stamp: str, record_id: int, catalogue: Catalogue) -> Event:
    """Return the event that no record carries. ``stamp``: when the object changed, ISO 8601 with offset.

    Raises ValueError for an event that cannot point to the object; ask `event_fits` first.
    """
    kind = catalogue.lookup(name)
    if kind is None or not event_fits(name, key.object_id, key.entity, catalogue):
        raise ValueError(f"{name} is no event of {key}")
    message = hashlib.sha256(f"synthetic {kind.name} {key.entity} {key.object_id}".encode()).hexdigest()[:32]
    return Event(
        portal=key.portal,
        record_id=record_id,
        stamp=stamp,
        message_id=message,
        name=kind.name,
        action=kind.action,
        object=key,
        data=payload_of(kind, key.object_id),
        user_id=None,
        nacked=False,
    )


class SyntheticBatches:
    """The synthetic batches of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._ledger = portal.ledger
        self._catalogue = portal.catalogue

    def open(self, batch: str, wanted: Iterable[tuple[str, ObjectKey, str, tuple[str, ...]]]) -> str | None:
        """Open the synthetic batch of this name with events (name, object, stamp, pipelines).

        Return its process id, which is to be dispatched; None when it is open already, so it may be repeated.
        """
        rows = list(wanted)
        first = self._ledger.synthetic_ids(len(rows)) - _BASE
        entries = [
            Entry(synthetic_event(name, key, stamp, first + place, self._catalogue), pipelines)
            for place, (name, key, stamp, pipelines) in enumerate(rows)
        ]
        process_id = f"{SYNTHETIC_PREFIX}{batch}"
        opened = self._ledger.open(process_id, entries, kind=BatchKind.SYNTHETIC)
        return None if opened is None else process_id

    def open_batches(self) -> int:
        """Return how many synthetic batches are open; dead-lettered and redriven ones do not count."""
        return self._ledger.open_count(BatchKind.SYNTHETIC)

    def objects(self) -> set[ObjectKey]:
        """Return the objects of all synthetic batches that are open."""
        objects: set[ObjectKey] = set()
        for process_id in filter(is_synthetic, self._ledger.open_batches()):
            objects |= {event.object for event in self._ledger.events(process_id).values() if event.object}
        return objects


def object_key(portal: str, words: str) -> ObjectKey | None:
    """Return the object that a person names as commands show it, ``crm_deal 871``; None when it is no such text."""
    entity, _, object_id = " ".join(words.split()).partition(" ")
    if not entity or not object_id or " " in object_id:
        return None
    return ObjectKey(portal, entity, object_id)


def described(event: Event) -> dict[str, Any]:
    """Return names and ids of a synthetic event, for an answer."""
    return {"event": event.name, "object": str(event.object), "record_id": event.record_id}
