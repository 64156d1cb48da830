"""Adopts orphans: what two lists of the portal show as reserved, and no batch of ours has in between, is opened.

The first list is a look at all that is reserved, without the poll lease: it may take long, and be cut off. The second
one asks for the orphans alone, under the lease under which they are opened.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from b24offline.errors import PortalError, RateLimited, StoreError
from b24offline.events import Record
from b24offline.ledger import BatchKind
from b24offline.rest import QUEUE_PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from b24offline.delivery.batch_opener import BatchOpener
    from b24offline.delivery.portal_bounds import PortalBounds
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.ledger import Orphan, PollLease

log = logging.getLogger(__name__)

_CUT_OFF = (PortalError, RateLimited, StoreError)


class Adopter:
    """Looks for the orphans of one portal, and opens them."""

    def __init__(self, portal: PortalContext, opener: BatchOpener, bounds: PortalBounds) -> None:
        self._bounds = bounds
        self._portal = portal
        self._opener = opener

    def at_once(self, lease: PollLease) -> tuple[str, ...]:
        """After a reserving call with an unknown answer: look, and adopt what it left. Return the process ids."""
        if not self._portal.config.claim_orphans:
            return ()
        self.look()
        return self.adopt(lease)

    def look(self) -> None:
        """Go on with the look at all reserved records, to its end or until it is cut off."""
        after = self._portal.orphans.look_after()
        if after is None:
            return
        try:
            for page in self._portal.queue.reserved_pages(after):
                named = [row.process_id for row in page.rows if isinstance(row, Record)]
                unreadable = len(page.rows) - len(named)
                self._bounds.note_listed(page.rows)
                if not self._portal.orphans.note_page(page.after, page.last, named, unreadable=unreadable):
                    return
        except _CUT_OFF as error:
            self._log_cut_off(error)

    def adopt(self, lease: PollLease) -> tuple[str, ...]:
        """Open what may be adopted and is still reserved. Return the process ids."""
        adopted: list[str] = []
        due = self._portal.orphans.due()
        try:
            for start in range(0, len(due), QUEUE_PAGE):
                adopted += self._opened(due[start : start + QUEUE_PAGE], lease)
        except _CUT_OFF as error:
            self._log_cut_off(error)
        return tuple(adopted)

    def _log_cut_off(self, error: Exception) -> None:
        extra = {"portal": self._portal.name, "why": str(error)}
        log.warning("look at reserved records cut off, the next one goes on there", extra=extra)

    def _opened(self, orphans: Sequence[Orphan], lease: PollLease) -> Iterator[str]:
        listed = self._portal.queue.reserved_as([orphan.process_id for orphan in orphans])
        if listed.whole:
            gone = [orphan.process_id for orphan in orphans if orphan.process_id not in listed.records]
            self._portal.orphans.forget(gone)
        for orphan in orphans:
            if not self._portal.fencing.within_quota():
                return
            records = self._with_pipeline(orphan, listed.records.get(orphan.process_id, []))
            if records and self._open(orphan, records, lease):
                yield orphan.process_id

    def _with_pipeline(self, orphan: Orphan, records: Sequence[Record]) -> list[Record]:
        """Return the records that may be settled: a nacked one without a pipeline can neither succeed nor be nacked
        twice."""
        routes = self._portal.routes
        left = {row.name for row in records if row.nacked and not routes.pipelines_for(row.name)}
        if left:
            extra = {"portal": self._portal.name, "process_id": orphan.process_id, "events": sorted(left)}
            log.error("orphan not adopted, no pipeline takes its nacked records: load one", extra=extra)
        return [row for row in records if not row.nacked or row.name not in left]

    def _open(self, orphan: Orphan, records: list[Record], lease: PollLease) -> bool:
        if not orphan.at_once:
            self._portal.fencing.open_in_doubt_window({record.message_id for record in records}, None)
        # Nacked records run for days; counted with new ones they would keep polls out.
        kind = BatchKind.RETRYING if all(record.nacked for record in records) else BatchKind.ADOPTED
        if not self._opener.open(orphan.process_id, records, kind, lease, first_seen_ms=orphan.first_seen_ms):
            return False
        extra = {"portal": self._portal.name, "process_id": orphan.process_id, "records": len(records)}
        log.warning("orphaned batch adopted", extra=extra)
        return True
