"""What protects a portal's queue from our own calls: the poll lease, in-doubt windows, epoch and sightings.

Epoch, in-doubt windows and the poll lease live in one Redis key, so that none vanishes alone: whoever finds the
epoch missing knows that the leases and in-doubt windows are gone too. No reserving call is let out for a while then,
and every message is in a in-doubt window where batches are still open.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

from b24offline import keys
from b24offline.config import DEFAULT_LANE
from b24offline.ledger.batch_kinds import BatchKind
from b24offline.ledger.notes import note_unreadable
from b24offline.ledger.replies import ORPHANS, POLL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from redis import Redis

    from b24offline.config import Timers
    from b24offline.events import Record
    from b24offline.ledger.ledger import Ledger
    from b24offline.ledger.replies import SettleLease

MAX_RETRYING_RECORDS: Final = 50
"""Held batches have one record each, so that many of them weigh as much as one batch of a poll."""
_PAGE: Final = 50
"""Nacked records sighted together: as many as one page of the portal's list, so that no page is read in vain."""
_ABOVE_ALL: Final = (1 << 53) - 1
"""Greater than any record id that a script can compare."""


@dataclass(frozen=True, slots=True)
class PollLease:
    """The right to one reserving call. ``token`` is given back after an answer that is known."""

    token: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PollRefused:
    """No reserving call now. ``reason``: "busy", "full" (open batches) or "recovering" (after loss of the ledger)."""

    reason: Literal["busy", "full", "recovering"]
    wait_seconds: float
    epoch: int | None = None


class Fencing:
    """The guard of one portal, beside its ledger."""

    def __init__(self, redis: Redis, ledger: Ledger, timers: Timers, *, max_in_flight_batches: int) -> None:
        self._redis = redis
        self._ledger = ledger
        self._timers = timers
        self._gate = max_in_flight_batches
        self._key = keys.fencing(ledger.stem)

    def take_poll_lease(
        self,
        known_epoch: int | None,
        *,
        gate: bool = True,
        lane: str = DEFAULT_LANE,
        kind: BatchKind = BatchKind.POLLED,
    ) -> PollLease | PollRefused:
        """Take the poll lease. ``known_epoch``: what the store remembers, None for a portal never polled.

        The lease outlives the longest reserving call. A new epoch must be durable before the call is sent.
        ``gate``: whether too many open batches refuse it: those of the lane, or retrying ones where ``kind`` is that.
        """
        token = secrets.token_hex(8)
        text = self._ledger.transition(
            "begin_poll",
            token,
            round(self._timers.poll_lease_seconds * 1000),
            (self._gate * MAX_RETRYING_RECORDS if kind is BatchKind.RETRYING else self._gate) if gate else 1 << 30,
            round(self._timers.recovery_seconds * 1000),
            secrets.randbits(48),
            "" if known_epoch is None else known_epoch,
            lane,
            round(self._timers.in_doubt_seconds * 1000),
            kind,
        )
        reply = POLL.validate_json(text)
        if reply.state == "taken":
            return PollLease(token, reply.epoch or 0)
        if reply.state == "full":
            return PollRefused("full", self._timers.sweep_seconds)
        return PollRefused(reply.state, reply.wait_ms / 1000, reply.epoch)

    def release(self, lease: PollLease) -> bool:
        """End the lease, after an answer that is known. Never after an unknown one: it then runs out by itself."""
        return bool(self._ledger.transition("end_poll", lease.token))

    def renew(self, lease: PollLease) -> bool:
        """Begin the lease anew, right before the reserving call is sent; False when somebody else has it by now.

        The call may have waited for its turn, or for a token: from here on the lease outlives it.
        """
        return bool(self._ledger.transition("renew_poll", lease.token, round(self._timers.poll_lease_seconds * 1000)))

    def poll_lease_left_seconds(self) -> float:
        """Return how long a reserving call may still be under way; 0.0 when none is."""
        until = self._redis.hget(self._key, "poll_until")
        return max(0.0, (int(until) - self._ledger.now_ms()) / 1000) if until else 0.0

    def open_in_doubt_window(self, messages: Collection[str], settling: SettleLease | None) -> float:
        """Note a in-doubt window, before an ``error`` call is sent or when a batch is adopted (no lease needed then).

        Return the seconds left of the settle lease; 0.0 when it was lost: then nothing was noted, send nothing.
        """
        owner = (settling.process_id, settling.token) if settling else ("", "")
        in_doubt = round(self._timers.in_doubt_seconds * 1000)
        left = self._ledger.transition("open_in_doubt_window", *owner, in_doubt, json.dumps(sorted(messages)))
        return int(left) / 1000

    def in_doubt_until_ms(self, messages: Collection[str]) -> Mapping[str, int]:
        """Message id -> end of its in-doubt window, for those that were noted; after loss of the guard, for all."""
        names = sorted(messages)
        if not names:
            return {}
        for_all, *values = self._redis.hmget(self._key, ["in_doubt_all", *(f"in_doubt:{name}" for name in names)])
        ends = {name: max(int(value or 0), int(for_all or 0)) for name, value in zip(names, values, strict=True)}
        return {name: end for name, end in ends.items() if end}

    def orphans_to_adopt(self, reserved: Collection[str]) -> dict[str, int]:
        """Tell of the reserved process ids those to adopt: unknown to us and first seen long enough ago (ms)."""
        age = round(self._timers.sighting_seconds * 1000)
        orphans = ORPHANS.validate_json(self._ledger.transition("orphans_to_adopt", json.dumps(sorted(reserved)), age))
        return {orphan.process_id: orphan.first_seen_ms for orphan in orphans}

    def has_orphans(self) -> bool:
        """Return whether orphans were seen that are not adopted yet."""
        return bool(self._redis.exists(keys.orphans(self._ledger.stem)))

    def note_reserved(self, count: int, unreadable: int) -> None:
        """Note how many reserved records a whole list had, and how many of them could not be read."""
        self._redis.set(keys.reserved(self._ledger.stem), count)
        note_unreadable(self._redis, self._ledger, unreadable)

    def reserved_count(self) -> int:
        """Return how many reserved records the last look at all of them found."""
        return int(self._redis.get(keys.reserved(self._ledger.stem)) or 0)

    def due_nacked(self, nacked: Iterable[Record], wait_seconds: float) -> Iterator[Record]:
        """Of the free nacked records those first seen long enough ago and not in a in-doubt window, oldest id first.

        ``nacked``: all there are, ascending by id, read page by page only as far as is needed for what is taken. One
        that was seen before and is missing in what was read is forgotten.
        """
        above, rows = 0, iter(nacked)
        while page := list(islice(rows, _PAGE)):
            upto = page[-1].record_id if len(page) == _PAGE else _ABOVE_ALL
            yield from self._sight_nacked(page, wait_seconds, above, upto)
            above = upto
        if above < _ABOVE_ALL:
            self._sight_nacked((), wait_seconds, above, _ABOVE_ALL)

    def nacked_count(self) -> int:
        """Return how many nacked records were seen and have not vanished since."""
        return int(self._redis.hlen(keys.nacked(self._ledger.stem)))

    def _sight_nacked(self, nacked: Iterable[Record], wait_seconds: float, above: int, upto: int) -> list[Record]:
        records = {record.record_id: record for record in nacked}
        rows = [[str(r.record_id), r.message_id] for r in records.values()]
        reply = self._ledger.transition("due_nacked", json.dumps(rows), round(wait_seconds * 1000), above, upto)
        return [records[record_id] for record_id in sorted(int(text) for text in reply)]
