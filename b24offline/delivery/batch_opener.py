"""Writes batches into the ledger, before anything of them is dispatched."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from b24offline.config import DEFAULT_LANE
from b24offline.delivery.intake import entries
from b24offline.ledger import expect_orphans
from b24offline.rest import MALFORMED, OVERSIZED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.delivery.portal_bounds import PortalBounds
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import MalformedRecord, Record
    from b24offline.ledger import BatchKind, Entry, PollLease

log = logging.getLogger(__name__)

UNROUTED_LOG_SECONDS: Final = 3600.0
"""How long nothing more is logged of an event name that has no route."""
MOST_LOGGED_NAMES: Final = 1000
"""Event names that are remembered; a portal may send any number of them."""
_logged_at: Final[dict[str, float]] = {}
"""Event name -> when this process logged it, on the clock of `time.monotonic`; of all portals."""


class BatchOpener:
    """Opens the batches of one portal."""

    def __init__(self, portal: PortalContext, bounds: PortalBounds) -> None:
        self._bounds = bounds
        self._portal = portal
        self._name = portal.name
        self._ledger = portal.ledger
        self._unrouted = portal.config.unrouted
        self._lanes = portal.config.all_lanes

    def open(
        self,
        process_id: str,
        rows: Iterable[Record | MalformedRecord],
        kind: BatchKind,
        lease: PollLease,
        *,
        lane: str = DEFAULT_LANE,
        first_seen_ms: int = 0,
    ) -> bool:
        """Write a batch under the poll lease. ``first_seen_ms``: of an orphan; 0: just reserved, which ends the lease.

        Return False when nothing was written: the lease was lost, or the batch is open.
        """
        made, unusable = entries(self._name, rows, self._portal.catalogue, self._portal.routes, self._unrouted)
        self._count(made, unusable)
        self._bounds.note_records(made)
        opened = self._ledger.open(
            process_id,
            made,
            kind=kind,
            lane=lane,
            poll_token=lease.token,
            first_seen_ms=first_seen_ms,
            records_per_place=self._lanes.get(lane, self._lanes[DEFAULT_LANE]).batch_size,
        )
        return opened is not None

    def _count(self, made: list[Entry], unusable: list[MalformedRecord]) -> None:
        unrouted = sum(1 for entry in made if not entry.pipelines)
        if unrouted:
            self._ledger.count("events_unrouted", unrouted)
        message = "event without a route acknowledged" if self._unrouted == "ack" else "event without a route nacked"
        for name in sorted({entry.event.name for entry in made if not entry.pipelines} - {MALFORMED, OVERSIZED}):
            if time.monotonic() - _logged_at.get(name, -UNROUTED_LOG_SECONDS) >= UNROUTED_LOG_SECONDS:
                if len(_logged_at) >= MOST_LOGGED_NAMES:
                    _logged_at.clear()
                _logged_at[name] = time.monotonic()
                log.warning(message, extra={"portal": self._name, "event": name})
        if unusable:
            expect_orphans(self._portal.redis, self._ledger.stem)
        for row in unusable:
            log.error("record unreadable, it stays reserved", extra={"portal": self._name, "reason": row.reason})
