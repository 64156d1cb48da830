"""Objects read in bulk, kept for the runs that need them: short-lived, in the ledger, never in a message.

A snapshot serves a run when it was read after the run's record was reserved: any later change of the object is then a
record of its own. ``read_ms`` is the ledger's clock just before the read was sent, and orders writes to the mirror.
A snapshot from the future serves none: the clock was set back since, and it may be older than the record. Nor does one
that was kept on another server: later ones, of changes that were acknowledged, may be forgotten there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis import Redis

    from b24offline.events import JSON, ObjectKey
    from b24offline.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of one object. ``data`` is None when the portal no longer has it."""

    object: ObjectKey
    read_ms: int
    data: JSON = field(repr=False)


class ObjectCache:
    """The snapshots of one portal."""

    def __init__(self, redis: Redis, ledger: Ledger, ttl_seconds: float, max_bytes: int = 1 << 30) -> None:
        self._redis = redis
        self._ledger = ledger
        self._max_bytes = max_bytes
        self._counter = keys.cached_bytes(ledger.stem)
        self._ttl_ms = max(1000, round(ttl_seconds * 1000))

    def put(self, snapshots: Iterable[Snapshot]) -> None:
        """Keep snapshots for the time to live; a later read replaces an earlier one.

        Of those that exceed the portal's quota in that time none is kept, nor an earlier one: their runs read them.
        """
        _, server, _ = self._ledger.transition("read_snapshots")
        texts = {
            keys.snapshot(self._ledger.stem, one.object.name): json.dumps(
                [one.read_ms, server, one.data], separators=(",", ":")
            )
            for one in snapshots
        }
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.set(self._counter, 0, nx=True, px=self._ttl_ms)
            for text in texts.values():
                pipe.incrby(self._counter, len(text))
            _, *sums = pipe.execute()
        with self._redis.pipeline(transaction=False) as pipe:
            for (key, text), cached_bytes in zip(texts.items(), sums, strict=True):
                if cached_bytes <= self._max_bytes:
                    pipe.set(key, text, px=self._ttl_ms)
                else:
                    pipe.delete(key)
            pipe.execute()

    def missing(self, objects: Iterable[ObjectKey], not_before_ms: int) -> list[ObjectKey]:
        """Return the objects that were not read at or after the given time."""
        wanted = dict.fromkeys(objects, not_before_ms)
        found = self.found(wanted)
        return [key for key in wanted if key not in found]

    def get(self, key: ObjectKey, not_before_ms: int) -> Snapshot | None:
        """Return the snapshot of an object, if one was read at or after the given time."""
        return self.found({key: not_before_ms}).get(key)

    def found(self, wanted: Mapping[ObjectKey, int]) -> dict[ObjectKey, Snapshot]:
        """Return the snapshots of those objects that were read at or after the given times, in milliseconds."""
        if not wanted:
            return {}
        now_ms, server, texts = self._ledger.transition("read_snapshots", *(key.name for key in wanted))
        found = {}
        for (key, not_before_ms), text in zip(wanted.items(), texts, strict=True):
            read_ms, kept_on, data = json.loads(text) if text else (0, "", None)
            if kept_on == server and not_before_ms <= read_ms <= now_ms:
                found[key] = Snapshot(key, read_ms, data)
        return found
