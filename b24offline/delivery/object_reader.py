"""Reads the current state of objects: many in one request ahead of their runs, or one when it is missing.

Raises `PortalError` of the call; an object that the portal no longer has is a snapshot without data, not an error.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.errors import B24OfflineError, ObjectNotFound
from b24offline.events import object_in
from b24offline.ledger import Snapshot
from b24offline.rest import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import JSON, ObjectKey, ObjectRead

BATCH: Final = 50
"""Reads that fit into one request."""


class NotReadable(B24OfflineError):
    """The event points to no object that the portal lets us read. The pipeline must not fetch it."""

    actor = "developer"


class ForeignAnswer(B24OfflineError):
    """The portal answered a read with something else than the object. Tried again as any error of a step."""

    actor = "developer"


class ObjectReader:
    """Reads objects of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal

    def prefetch(self, objects: Iterable[ObjectKey], not_before_ms: int = 0) -> int:
        """Read objects in bulk and keep them for their runs; not those that were read since the given time.

        Return how many it read. What a portal refuses for a single object is left to that object's run.
        """
        wanted = {}
        for key in self._portal.object_cache.missing(objects, not_before_ms) if not_before_ms else objects:
            read = self._portal.catalogue.getter(key)
            if read is not None:
                wanted[key] = read
        names = list(wanted)
        kept = 0
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            commands = {f"o{i}": Command(wanted[key].method, wanted[key].params) for i, key in enumerate(part)}
            read_ms = self._portal.ledger.now_ms()
            answer = self._portal.client.batch(commands)
            snapshots = []
            for i, key in enumerate(part):
                error = answer.errors.get(f"o{i}")
                with suppress(ForeignAnswer):
                    if error is None:
                        data = _object_in(answer.results.get(f"o{i}"), wanted[key], key)
                        snapshots.append(Snapshot(key, read_ms, data))
                    elif isinstance(error, ObjectNotFound):
                        snapshots.append(Snapshot(key, read_ms, None))
            self._portal.object_cache.put(snapshots)
            if snapshots:
                self._note_answer(read_ms)
            kept += len(snapshots)
        return kept

    def answered_seconds_ago(self) -> float:
        """Return how long ago the portal was last asked for an object and answered; infinity when nobody knows."""
        asked_ms = self._portal.redis.get(keys.answered(self._portal.ledger.stem))
        return (self._portal.ledger.now_ms() - int(asked_ms)) / 1000 if asked_ms else math.inf

    def _note_answer(self, asked_ms: int) -> None:
        self._portal.redis.set(keys.answered(self._portal.ledger.stem), asked_ms)

    def read(self, key: ObjectKey, not_before_ms: int) -> Snapshot:
        """Return the object as it was at or after the given time of the ledger's clock. Raises `ForeignAnswer`, too."""
        kept = self._portal.object_cache.get(key, not_before_ms)
        if kept is not None:
            return kept
        read = self._portal.catalogue.getter(key)
        if read is None:
            raise NotReadable(f"portal {key.portal}: no method reads {key}; leave objects.fetch out of its pipeline")
        read_ms = self._portal.ledger.now_ms()
        data: JSON = None
        try:
            data = _object_in(self._portal.client.call(read.method, read.params), read, key)
        except ObjectNotFound:
            data = None
        self._note_answer(read_ms)
        snapshot = Snapshot(key, read_ms, data)
        self._portal.object_cache.put([snapshot])
        return snapshot


def _object_in(result: JSON, read: ObjectRead, key: ObjectKey) -> JSON:
    try:
        return object_in(result, read)
    except ValueError as error:
        raise ForeignAnswer(f"portal {key.portal}: {read.method} did not answer with {key}: {error}") from None
