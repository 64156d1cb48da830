"""Reads the current state of objects: many in one request ahead of their runs, or one when it is missing.

Raises `PortalError` of the call; an object that the portal no longer has is a snapshot without data, not an error.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.errors import B24OfflineError, ObjectNotFound
from b24offline.events import ObjectKey, object_in
from b24offline.ledger import Snapshot
from b24offline.rest import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import JSON, Catalogue, ObjectRead
    from b24offline.rest import PortalClient

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
        self._answered = keys.answered(portal.ledger.stem)

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
            answer = self._portal.client.batch(commands, waits=False)
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
                self._note_answer(read_ms, snapshots[-1].object)
            kept += len(snapshots)
        return kept

    def answered_seconds_ago(self, error: Exception, wait_seconds: float) -> float:
        """Return how long ago the portal was asked for an object and answered; infinity when nobody knows.

        After ``error``, and where that is more than ``wait_seconds`` ago, ask for the object that it answered for last:
        batches of objects that are refused keep all others out, whose answers would tell that the portal is well.
        """
        asked_ms, witness = self._last_answer()
        # What brought no answer may hold a worker until the read timeout: one at a time is enough.
        answer_lost = getattr(error, "status", None) is None
        every_seconds = self._portal.timers.read_timeout_seconds if answer_lost else wait_seconds / 2
        if witness and self._seconds_since(asked_ms) >= wait_seconds:
            if self._portal.once_per(f"witness:{self._portal.name}", every_seconds):
                with suppress(B24OfflineError):
                    self.read(witness, self._portal.ledger.now_ms())
            asked_ms, _ = self._last_answer()
        return self._seconds_since(asked_ms)

    def _seconds_since(self, asked_ms: float) -> float:
        return (self._portal.ledger.now_ms() - asked_ms) / 1000

    def _last_answer(self) -> tuple[float, ObjectKey | None]:
        """Return when the portal was asked for an object and answered, in milliseconds, and which one that was."""
        asked_ms, *key = str(self._portal.redis.get(self._answered) or "").split(" ", 2)
        return float(asked_ms or -math.inf), ObjectKey(self._portal.name, *key) if len(key) == 2 else None

    def _note_answer(self, asked_ms: int, key: ObjectKey) -> None:
        self._portal.redis.set(self._answered, f"{asked_ms} {key.entity} {key.object_id}")

    def read(self, key: ObjectKey, not_before_ms: int) -> Snapshot:
        """Return the object as it was at or after the given time of the ledger's clock. Raises `ForeignAnswer`, too."""
        kept = self._portal.object_cache.get(key, not_before_ms)
        if kept is not None:
            return kept
        read_ms = self._portal.ledger.now_ms()
        data = read_object(self._portal.client, self._portal.catalogue, key)
        self._note_answer(read_ms, key)
        snapshot = Snapshot(key, read_ms, data)
        self._portal.object_cache.put([snapshot])
        return snapshot


def read_object(client: PortalClient, catalogue: Catalogue, key: ObjectKey) -> JSON:
    """Return an object as the portal has it now, None when it is gone. Raise `NotReadable` or `ForeignAnswer`, too."""
    read = catalogue.getter(key)
    if read is None:
        raise NotReadable(f"portal {key.portal}: no method reads {key}; leave objects.fetch out of its pipeline")
    try:
        return _object_in(client.call(read.method, read.params), read, key)
    except ObjectNotFound:
        return None


def _object_in(result: JSON, read: ObjectRead, key: ObjectKey) -> JSON:
    try:
        return object_in(result, read)
    except ValueError as error:
        raise ForeignAnswer(f"portal {key.portal}: {read.method} did not answer with {key}: {error}") from None
