"""Objects read in bulk, kept for the runs that need them: short-lived, in the ledger, never in a message.

A snapshot serves a run when it was read after the run's record was reserved: any later change of the object is then a
record of its own. ``read_ms`` is the ledger's clock just before the read was sent, and orders writes to the mirror.
A snapshot from the future serves none: the clock was set back since, and it may be older than the record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from b24offline import keys
from b24offline.ledger.transitions import clock_ms

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def __init__(self, redis: Redis, ledger: Ledger, ttl_seconds: float) -> None:
        self._redis = redis
        self._stem = ledger.stem
        self._ttl_ms = max(1000, round(ttl_seconds * 1000))

    def _key(self, key: ObjectKey) -> str:
        return keys.snapshot(self._stem, key.name)

    def put(self, snapshots: Iterable[Snapshot]) -> None:
        """Keep snapshots for the time to live; a later read replaces an earlier one."""
        with self._redis.pipeline(transaction=False) as pipe:
            for snapshot in snapshots:
                text = json.dumps([snapshot.read_ms, snapshot.data], separators=(",", ":"))
                pipe.set(self._key(snapshot.object), text, px=self._ttl_ms)
            pipe.execute()

    def missing(self, objects: Iterable[ObjectKey], not_before_ms: int) -> list[ObjectKey]:
        """Return the objects that were not read at or after the given time."""
        wanted = list(objects)
        if not wanted:
            return []
        texts = self._redis.mget([self._key(key) for key in wanted])
        now_ms = clock_ms(self._redis)
        return [
            key
            for key, text in zip(wanted, texts, strict=True)
            if text is None or not not_before_ms <= int(json.loads(text)[0]) <= now_ms
        ]

    def get(self, key: ObjectKey, not_before_ms: int) -> Snapshot | None:
        """Return the snapshot of an object, if one was read at or after the given time."""
        text = self._redis.get(self._key(key))
        if text is None:
            return None
        read_ms, data = json.loads(text)
        return Snapshot(key, read_ms, data) if not_before_ms <= read_ms <= clock_ms(self._redis) else None
