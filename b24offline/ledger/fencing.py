"""What protects a portal's queue from our own calls: epoch, poll lease and in-doubt windows.

Epoch, in-doubt windows and the poll lease live in one Redis key, the fencing hash, so that none vanishes alone: a
missing epoch means that leases and in-doubt windows are gone, too. For a while no reserving call is sent then, and
where batches are still open every message is in doubt.
"""

from __future__ import annotations

import json
import secrets
from bisect import bisect
from itertools import islice
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.config import DEFAULT_LANE
from b24offline.ledger.batches import BatchKind
from b24offline.ledger.nacked_records import forget_nacked, note_unknown
from b24offline.ledger.replies import POLL
from b24offline.ledger.transitions import milliseconds

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from redis import Redis

    from b24offline.config import Timers
    from b24offline.events import Record
    from b24offline.ledger.ledger import Ledger
    from b24offline.ledger.replies import PollLease, PollRefused, SettleLease

MAX_RETRYING_RECORDS: Final = 50
"""Retrying batches that count as one batch of a poll: each has one record."""
_PAGE: Final = 50
"""Nacked records looked at together: as many as a page of the portal's list, so that no page is read in vain."""
_NO_LIMIT: Final = 1 << 30
_ABOVE_ALL: Final = 1 << 64
"""Greater than any record id."""


class Fencing:
    """The fencing hash of one portal, beside its ledger."""

    def __init__(
        self, redis: Redis, ledger: Ledger, timers: Timers, *, max_in_flight_batches: int, max_bytes: int = _NO_LIMIT
    ) -> None:
        self._redis = redis
        self._ledger = ledger
        self._timers = timers
        self._gate = max_in_flight_batches
        self._max_bytes = max_bytes
        self._key = keys.fencing(ledger.stem)

    def take_poll_lease(
        self,
        known_epoch: int | None,
        *,
        gate: bool = True,
        lane: str = DEFAULT_LANE,
        kind: BatchKind = BatchKind.POLLED,
        places: int = 1,
    ) -> PollLease | PollRefused:
        """Take the poll lease. ``known_epoch``: what the store remembers, None for a portal never polled.

        The lease outlives the longest reserving call. A new epoch must be durable before the call is sent.
        ``gate``: whether too many open batches refuse it, those of the lane, or the retrying ones for that ``kind``; or
        too many bytes of events that are new, or retrying. ``places``: for how many batches of the usual size the one
        that is to be opened counts.
        """
        most = self._gate * MAX_RETRYING_RECORDS if kind is BatchKind.RETRYING else self._gate
        text = self._ledger.transition(
            "begin_poll",
            secrets.token_hex(8),
            milliseconds(self._timers.poll_lease_seconds),
            most if gate else _NO_LIMIT,
            round(self._timers.recovery_seconds * 1000),
            secrets.randbits(48),
            "" if known_epoch is None else known_epoch,
            lane,
            milliseconds(self._timers.all_in_doubt_seconds),
            kind,
            self._timers.sweep_seconds,
            self._max_bytes if gate else _NO_LIMIT,
            places,
        )
        return POLL.validate_json(text)

    def release(self, lease: PollLease) -> bool:
        """End the lease, after an answer that is known; after an unknown one it must run out by itself."""
        return bool(self._ledger.transition("end_poll", lease.token))

    def renew(self, lease: PollLease) -> bool:
        """Begin the lease anew, right before the reserving call is sent; return False when another poll has it.

        The call may have waited for its turn, or for a token: from here on the lease outlives it. Its intent is noted
        until its answer is known: whoever has the lease next is told of it.
        """
        return bool(self._ledger.transition("renew_poll", lease.token, milliseconds(self._timers.poll_lease_seconds)))

    def poll_lease_left_seconds(self) -> float:
        """Return how long a reserving call may still be under way; 0.0 when none is."""
        until = self._redis.hget(self._key, "poll_until")
        return max(0.0, (int(until) - self._ledger.now_ms()) / 1000) if until else 0.0

    def open_in_doubt_window(self, messages: Collection[str], settling: SettleLease | None) -> float:
        """Put messages in doubt, before an ``error`` call is sent or when a batch is adopted (no lease needed then).

        Return the seconds left of the settle lease; 0.0 when it was lost: nothing was noted then, send nothing.
        """
        owner = (settling.process_id, settling.token) if settling else ("", "")
        in_doubt = milliseconds(self._timers.in_doubt_seconds)
        left = self._ledger.transition("open_in_doubt_window", *owner, in_doubt, json.dumps(sorted(messages)))
        return int(left) / 1000

    def in_doubt_until_ms(self, messages: Collection[str]) -> Mapping[str, int]:
        """Return message id -> end of its in-doubt window, where there is one; after loss of the epoch, for all."""
        names = sorted(messages)
        if not names:
            return {}
        for_all, *values = self._redis.hmget(self._key, ["in_doubt_all", *(f"in_doubt:{name}" for name in names)])
        ends = {name: max(int(value or 0), int(for_all or 0)) for name, value in zip(names, values, strict=True)}
        return {name: end for name, end in ends.items() if end}

    def within_quota(self) -> bool:
        """Return whether the open new events have fewer bytes than they may have."""
        return int(self._redis.hget(keys.open_counts(self._ledger.stem), "bytes:new") or 0) < self._max_bytes

    def due_nacked(self, nacked: Iterable[Record], wait_seconds: float) -> Iterator[Record]:
        """Yield the free nacked records that were first seen long enough ago and are not in doubt, by ascending id.

        ``nacked``: all there are, ascending by id; they are read only as far as the caller takes what is due. A record
        that was nacked or seen before and is missing where it was looked for is forgotten.
        """
        stem = self._ledger.stem
        noted = {*self._redis.hkeys(keys.nacked(stem)), *self._redis.hkeys(keys.failures(stem))}
        seen = sorted(int(record_id) for record_id in noted)
        rows = iter(nacked)
        while True:
            page = list(islice(rows, _PAGE))
            upto = page[-1].record_id if len(page) == _PAGE else _ABOVE_ALL
            passed, seen = seen[: bisect(seen, upto)], seen[bisect(seen, upto) :]
            if vanished := set(passed) - {record.record_id for record in page}:
                forget_nacked(self._redis, self._ledger, vanished)
            yield from self._due_of(page, wait_seconds)
            if upto == _ABOVE_ALL:
                return

    def nacked_count(self) -> int:
        """Return how many nacked records were seen and have not vanished since."""
        return int(self._redis.hlen(keys.nacked(self._ledger.stem)))

    def _due_of(self, nacked: Iterable[Record], wait_seconds: float) -> list[Record]:
        records = {record.record_id: record for record in nacked}
        rows = [[str(record.record_id), record.message_id] for record in records.values()]
        note_unknown(self._redis, self._ledger, records.values())
        reply = self._ledger.transition("due_nacked", json.dumps(rows), round(wait_seconds * 1000))
        return [records[record_id] for record_id in sorted(int(text) for text in reply)]
