"""What a portal may cost: rows of a reply, bytes in the ledger, the ledger and the broker; and what is beyond that."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal

from b24offline import keys
from b24offline.config import next_batch_size
from b24offline.errors import AnswerTooLarge
from b24offline.events import MalformedRecord, Record
from b24offline.ledger import MEMORY_SHARE, expect_orphans, memory_share, note_oversized
from b24offline.rest import MOST_TOO_LARGE, OVERSIZED, TOO_LARGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.config import Lane
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Batch
    from b24offline.ledger import Entry

log = logging.getLogger(__name__)

ONE_BY_ONE_SECONDS: Final = 3600.0
"""How long few records are reserved by one call, or one by one, after an answer that was too large."""
FEW: Final = 50
"""For so many at most the next call asks after an answer that was too large; one by one only after another one."""
TOO_LARGE_SECONDS: Final = 3600
Closed = Literal["ledger_full", "broker_full", "too_large"]


class PortalBounds:
    """Looks after the bounds of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._redis = portal.redis
        self._ledger = portal.ledger

    def closed(self) -> Closed | None:
        """Return why nothing may be reserved now, None when it may."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.info("memory")
            pipe.get(keys.broker_full(self._portal.config.redis_key_prefix))
            pipe.scard(keys.too_large(self._ledger.stem))
            memory, broker_full, too_large = pipe.execute()
        if memory_share(memory) > MEMORY_SHARE:
            return "ledger_full"
        if broker_full:
            return "broker_full"
        if too_large >= MOST_TOO_LARGE:
            self._note(f"{MOST_TOO_LARGE} reserved records are larger than an answer may be")
            return "too_large"
        return None

    def batch_size(self, lane: Lane) -> int:
        """Return how many records are asked for: many after full batches, few after answers that were too large.

        At most half of what may be open, so that workers have the one half while the other is reserved.
        """
        wanted = lane.batch_size
        if lane.largest > lane.batch_size:
            half = self._portal.config.max_in_flight_batches // 2 * lane.batch_size
            wanted = max(wanted, min(lane.largest, half, self._portal.lanes.batch_size(lane.name)))
        most = self._redis.get(keys.one_by_one(self._ledger.stem))
        return min(wanted, int(most)) if most else wanted

    def note_received(self, lane: Lane, received: int, asked: int) -> None:
        """After a reserving call: how many records does the next one ask for?"""
        size = next_batch_size(lane, received)
        if lane.largest > lane.batch_size and size != asked:
            self._portal.lanes.note_batch_size(lane.name, size if size > lane.batch_size else 0)

    def note_answer(self, error: Exception, asked: int) -> None:
        """After the error of a reserving call: if its answer was too large, fewer records are reserved, or one by one.

        ``asked``: for how many records.
        """
        if isinstance(error, AnswerTooLarge):
            milliseconds = max(1, round(ONE_BY_ONE_SECONDS * self._portal.config.time_scale * 1000))
            most = FEW if asked > FEW else 1
            self._redis.set(keys.one_by_one(self._ledger.stem), most, px=milliseconds)
            self._note(f"{error.method}: {error.description}")

    def note_refused(self, reason: str) -> None:
        """After a poll was refused: was it for the bytes of the open events?"""
        if reason == "over_quota":
            self._note(f"its open events have {self._portal.config.portal_ledger_bytes} bytes or more in the ledger")

    def note_batch(self, batch: Batch) -> None:
        """After a reserving call: were there more rows than asked for?"""
        if batch.surplus:
            expect_orphans(self._redis, self._ledger.stem)
            self._note(f"a reserving call returned {batch.surplus} records more than it asked for")

    def note_records(self, made: list[Entry]) -> None:
        """Before records are written: were some too large to run?"""
        ids = [entry.event.record_id for entry in made if entry.event.name == OVERSIZED]
        if ids:
            self._ledger.count("records_oversized", len(ids))
            most = self._portal.config.max_record_bytes
            self._note(f"records with more than {most} bytes, nacked without running: {', '.join(map(str, ids[:10]))}")

    def note_listed(self, rows: Iterable[Record | MalformedRecord]) -> None:
        """After a page of reserved records: which of them cannot be read for their size, and which can again."""
        key = keys.too_large(self._ledger.stem)
        large = [str(row.record_id) for row in rows if isinstance(row, MalformedRecord) and row.reason == TOO_LARGE]
        if large:
            self._redis.sadd(key, *large)
            self._redis.expire(key, TOO_LARGE_SECONDS)
        elif read := [row.record_id for row in rows if isinstance(row, Record)]:
            self._redis.srem(key, *read)

    def _note(self, what: str) -> None:
        note_oversized(self._redis, self._ledger, what)
        if self._portal.once_per(f"oversized:{self._portal.name}", 60):
            log.error("portal sent more than it may", extra={"portal": self._portal.name, "why": what})
