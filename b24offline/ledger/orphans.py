"""Orphans: records that are reserved on the portal under a process id that no open batch has.

A look reads the portal's list of reserved records page by page, and may be cut off after any of them: the next look
goes on there. What it notes of a process id is when that was first seen and unknown. An orphan may be adopted 180 s
later; at once, where an unanswered reserving call explains it, and no call of a lost ledger can be on its way.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from b24offline import keys
from b24offline.ledger.notes import note_unreadable
from b24offline.ledger.transitions import milliseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from redis import Redis

    from b24offline.config import Timers
    from b24offline.ledger.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Orphan:
    """An orphan that may be adopted. ``at_once``: without an in-doubt window."""

    process_id: str
    first_seen_ms: int
    at_once: bool


def adoptable(sightings: Mapping[str, int], now_ms: int, *, sighting_ms: int, at_once: bool) -> tuple[Orphan, ...]:
    """Return the orphans that may be adopted, those first that were seen first. Pure."""
    due = [
        Orphan(process_id, first_ms, at_once)
        for process_id, first_ms in sightings.items()
        if at_once or now_ms - first_ms >= sighting_ms
    ]
    return tuple(sorted(due, key=lambda orphan: (orphan.first_seen_ms, orphan.process_id)))


class Orphans:
    """What is known of the orphans of one portal."""

    def __init__(self, redis: Redis, ledger: Ledger, timers: Timers) -> None:
        self._redis = redis
        self._ledger = ledger
        self._timers = timers
        self._fencing = keys.fencing(ledger.stem)
        self._orphans = keys.orphans(ledger.stem)
        self._look = keys.look(ledger.stem)

    def look_after(self) -> int | None:
        """Return the record id behind which the look goes on; 0: it begins; None: not now, the ledger was lost."""
        recovery_until = int(self._redis.hget(self._fencing, "recovery_until") or 0)
        return None if recovery_until > self._ledger.now_ms() else int(self._redis.hget(self._look, "after") or 0)

    def note_page(self, after: int, last: int | None, process_ids: Collection[str], *, unreadable: int) -> bool:
        """Note one page of the list, that of the records behind ``after``; ``last``: None for the last page.

        Return False when nothing was noted: another look is further, or the ledger was lost a moment ago.
        """
        names = json.dumps(sorted(set(process_ids)))
        end = "" if last is None else last
        counted = self._ledger.transition("note_reserved", names, after, end, unreadable)
        if counted is not None and last is None:
            note_unreadable(self._redis, self._ledger, int(counted))
        return counted is not None

    def due(self) -> tuple[Orphan, ...]:
        """Return the orphans that may be adopted. List them again under the poll lease, then open them under it."""
        intent, unanswered, whole_since = self._redis.hmget(self._fencing, ["intent", "unanswered", "whole_since"])
        sightings = {str(name): int(first) for name, first in self._redis.hgetall(self._orphans).items()}
        now_ms = self._ledger.now_ms()
        explained = bool(intent) or int(unanswered or 0) > now_ms
        whole = now_ms - int(whole_since or 0) >= milliseconds(self._timers.all_in_doubt_seconds)
        sighting_ms = milliseconds(self._timers.sighting_seconds)
        return adoptable(sightings, now_ms, sighting_ms=sighting_ms, at_once=explained and whole)

    def forget(self, process_ids: Collection[str]) -> None:
        """Forget sightings of what the portal lists no more."""
        if process_ids:
            self._redis.hdel(self._orphans, *process_ids)
