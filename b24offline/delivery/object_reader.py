"""Reads the current state of objects: many in one request ahead of their runs, or one when it is missing.

Many are read by list where a list answers all that `get` does. What a list leaves out, refuses or answers in another
shape is asked for by `get`: only that tells an object that is gone from one that may not be read.

Raises `PortalError` of the call; an object that the portal no longer has is a snapshot without data, not an error.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from b24offline import keys
from b24offline.delivery.bulk_reads import Get, requests_for
from b24offline.errors import AnswerTooLarge, B24OfflineError, ObjectNotFound
from b24offline.events import ObjectKey, object_in
from b24offline.ledger import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from b24offline.delivery.bulk_reads import Listing
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import JSON, Catalogue, ObjectRead
    from b24offline.rest import BatchAnswer, PortalClient


class NotReadable(B24OfflineError):
    """The event points to no object that the portal lets us read. The pipeline must not fetch it."""

    actor = "developer"


class ForeignAnswer(B24OfflineError):
    """The portal answered a read with something else than the object. Tried again as any error of a step."""

    actor = "developer"


@dataclass(frozen=True, slots=True)
class _Answered:
    """What one request brought: objects, errors of single ones, and those that a list did not answer."""

    snapshots: list[Snapshot] = field(default_factory=list)
    errors: dict[ObjectKey, Exception] = field(default_factory=dict)
    left: list[ObjectKey] = field(default_factory=list)


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
        kept = 0
        for snapshots, _ in self._in_bulk(wanted, waits=False):
            self._portal.object_cache.put(snapshots)
            kept += len(snapshots)
        return kept

    def read_all(self, wanted: Mapping[ObjectKey, int]) -> tuple[dict[ObjectKey, Snapshot], dict[ObjectKey, Exception]]:
        """Return the objects as they were at or after the given times, and what the portal refuses for single ones.

        ``wanted``: object -> milliseconds of the ledger's clock. What was not read ahead is read in bulk now.
        """
        snapshots = self._portal.object_cache.found(wanted)
        refused: dict[ObjectKey, Exception] = {}
        reads = {}
        for key in wanted:
            read = None if key in snapshots else self._portal.catalogue.getter(key)
            if read is not None:
                reads[key] = read
            elif key not in snapshots:
                refused[key] = _not_readable(key)
        for found, errors in self._in_bulk(reads, waits=True):
            snapshots |= {snapshot.object: snapshot for snapshot in found}
            refused |= errors
        return snapshots, refused

    def _in_bulk(
        self, reads: Mapping[ObjectKey, ObjectRead], *, waits: bool
    ) -> Iterator[tuple[list[Snapshot], dict[ObjectKey, Exception]]]:
        """Yield what each request brought: objects, and the errors of those that it did not bring.

        ``waits``: for a slot among the calls of the portal that are in flight.
        """
        left: dict[ObjectKey, ObjectRead] = {}
        for request in requests_for(reads, self._portal.config.read_by_get):
            try:
                answered = self._ask(request, waits=waits)
            except AnswerTooLarge:
                if all(isinstance(one, Get) for one in request):
                    raise
                answered = _Answered(left=[key for one in request for key in one.keys])
            left |= {key: reads[key] for key in answered.left}
            yield answered.snapshots, answered.errors
        for request in requests_for(left):
            answered = self._ask(request, waits=waits)
            yield answered.snapshots, answered.errors

    def _ask(self, request: Sequence[Get | Listing], *, waits: bool) -> _Answered:
        """Send one request and sort what it brought."""
        commands = {f"o{i}": one.command for i, one in enumerate(request)}
        read_ms = self._portal.ledger.now_ms()
        answer = self._portal.client.batch(commands, waits=waits)
        answered = _Answered()
        for name, one in zip(commands, request, strict=True):
            if isinstance(one, Get):
                _sort_get(answered, one, name, answer, read_ms)
            else:
                _sort_list(answered, one, name, answer, read_ms)
        if answered.snapshots:
            self._note_answer(read_ms, answered.snapshots[-1].object)
        return answered

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
        raise _not_readable(key)
    try:
        return _object_in(client.call(read.method, read.params), read, key)
    except ObjectNotFound:
        return None


def _not_readable(key: ObjectKey) -> NotReadable:
    return NotReadable(f"portal {key.portal}: no method reads {key}; leave objects.fetch out of its pipeline")


def _object_in(result: JSON, read: ObjectRead, key: ObjectKey) -> JSON:
    try:
        return object_in(result, read)
    except ValueError as error:
        raise ForeignAnswer(f"portal {key.portal}: {read.method} did not answer with {key}: {error}") from None


def _sort_get(answered: _Answered, one: Get, name: str, answer: BatchAnswer, read_ms: int) -> None:
    error: Exception | None = answer.errors.get(name)
    data: JSON = None
    try:
        if error is None:
            data = _object_in(answer.results.get(name), one.read, one.key)
    except ForeignAnswer as foreign:
        error = foreign
    if error is None or isinstance(error, ObjectNotFound):
        answered.snapshots.append(Snapshot(one.key, read_ms, data))
    else:
        answered.errors[one.key] = error


def _sort_list(answered: _Answered, one: Listing, name: str, answer: BatchAnswer, read_ms: int) -> None:
    """Sort what a list brought. Nothing of it is an error yet: `get` tells for each object."""
    try:
        found = {} if name in answer.errors else one.found(answer.results.get(name))
    except ValueError:
        found = {}
    answered.snapshots.extend(Snapshot(key, read_ms, row) for key, row in found.items())
    answered.left.extend(key for key in one.keys if key not in found)
