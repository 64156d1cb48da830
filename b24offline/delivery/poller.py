"""Reserves records of one portal and writes them into the ledger, before anything is dispatched.

Three ways in, all under the poll lease: a poll of free records, the adoption of orphans, and the redrive of nacked
records. The lease is given back after an answer that is known; after an unknown one it runs out by itself, and what was
reserved is found as an orphan.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from b24offline.config import DEFAULT_LANE
from b24offline.delivery.intake import entries
from b24offline.errors import ClaimNeeded, PortalError, RateLimited, StoreError
from b24offline.events import CLAIMED, Batch, MalformedRecord, ObservedState, Record
from b24offline.failpoints import failpoint
from b24offline.ledger import BatchKind, PollRefused
from b24offline.rest import MALFORMED, ReserveOrder, retry_expired_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.config import Lane
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.ledger import Entry, PollLease

log = logging.getLogger(__name__)

UNROUTED_LOG_SECONDS: Final = 3600.0
"""How long nothing more is logged of an event name that has no route."""
MOST_LOGGED_NAMES: Final = 1000
"""Event names that are remembered; a portal may send any number of them."""
_logged_at: Final[dict[str, float]] = {}
"""Event name -> when this process logged it, on the clock of `time.monotonic`; of all portals."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """What a poll brought. ``opened``: process ids to dispatch. "busy", "full", "recovering": nothing was sent."""

    state: Literal["empty", "opened", "busy", "full", "recovering"]
    received: int = 0
    opened: tuple[str, ...] = ()


class Poller:
    """The ways into the ledger of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._name = portal.name
        self._ledger = portal.ledger
        self._fencing = portal.fencing
        self._routes = portal.routes
        self._portals = portal.store.portals
        self._unrouted = portal.config.unrouted

    def poll(self, lane: Lane) -> PollResult:
        """Reserve one batch of free records for a lane and open it.

        Raises `ClaimNeeded`, nothing reserved, when this deployment never polled the portal and somebody else's
        records are reserved there.
        """
        known = self._known_epoch()
        if known is None:
            self._refuse_foreign()
        lease = self._lease(known, gate=True, lane=lane.name)
        if isinstance(lease, PollRefused):
            return PollResult(lease.reason)
        failpoint("poll.leased")
        batch = self._reserved(lease, ReserveOrder(lane.batch_size, lane.order, lane.filter))
        if not isinstance(batch, Batch):
            return PollResult(batch)
        self._open(batch, BatchKind.POLLED, lease=lease, lane=lane.name)
        received = len(batch.records) + len(batch.malformed)
        return PollResult("opened", received, (batch.process_id,))

    def adopt(self) -> tuple[str, ...]:
        """Open orphans that were seen twice, far enough apart. Return their process ids.

        Nothing before the first poll, which decides whose they are; so with `redrive`. A nacked record that no pipeline
        takes stays an orphan: it cannot succeed and must not be nacked twice, so it waits for a worker with its route.
        """
        known = self._known_epoch()
        if known is None:
            return ()
        lease = self._lease(known, gate=False)
        if isinstance(lease, PollRefused):
            return ()
        try:
            groups = self._reserved_rows()
            adopted: list[str] = []
            # The list may have taken longer than the lease: it begins anew, unless another worker has it.
            orphans = self._fencing.orphans_to_adopt(groups, lease) if self._fencing.renew(lease) else {}
            for process_id, first_seen_ms in orphans.items():
                if not self._fencing.renew(lease):
                    break
                rows = [row for row in groups[process_id] if self._can_settle(row)]
                if left := {row.name for row in groups[process_id] if not self._can_settle(row)}:
                    extra = {"portal": self._name, "process_id": process_id, "events": sorted(left)}
                    log.error("orphan not adopted, no pipeline takes its nacked records: load one", extra=extra)
                if rows and self._adopt(process_id, rows, first_seen_ms, lease):
                    adopted.append(process_id)
            return tuple(adopted)
        finally:
            self._fencing.release(lease)

    def _reserved_rows(self) -> dict[str, list[Record]]:
        """Return process id -> its records, of all that are reserved on the portal; note how many there are."""
        groups: dict[str, list[Record]] = {}
        listed = unreadable = 0
        for row in self._portal.queue.reserved():
            listed += 1
            if isinstance(row, Record):
                groups.setdefault(row.process_id, []).append(row)
            else:
                unreadable += 1
        self._fencing.note_reserved(listed, unreadable)
        return groups

    def _can_settle(self, record: Record) -> bool:
        return not record.nacked or bool(self._routes.pipelines_for(record.name))

    def _adopt(self, process_id: str, records: list[Record], first_seen_ms: int, lease: PollLease) -> bool:
        self._fencing.open_in_doubt_window({record.message_id for record in records}, None)
        # Nacked records run for days; counted with new ones they would keep polls out.
        kind = BatchKind.RETRYING if all(record.nacked for record in records) else BatchKind.ADOPTED
        if not self._write(process_id, records, kind, poll_token=lease.token, first_seen_ms=first_seen_ms):
            return False
        extra = {"portal": self._name, "process_id": process_id, "records": len(records)}
        log.warning("orphaned batch adopted", extra=extra)
        return True

    def redrive(self, due: Iterable[Record]) -> tuple[str, ...]:
        """Reserve nacked records, one by one, and open each as a retrying batch. Return their process ids.

        ``due`` may list the portal while it is read. A record that no pipeline takes cannot succeed and must not be
        nacked twice: it stays nacked and free.
        """
        opened: list[str] = []
        try:
            for record in due:
                if not self._routes.pipelines_for(record.name):
                    continue
                known = self._known_epoch()
                if known is None:
                    break
                lease = self._lease(known, gate=True, kind=BatchKind.RETRYING)
                if isinstance(lease, PollRefused):
                    break
                batch = self._reserved(lease, ReserveOrder.nacked_record(record.record_id))
                if isinstance(batch, Batch):
                    self._open(batch, BatchKind.RETRYING, lease=lease)
                    opened.append(batch.process_id)
        except (PortalError, RateLimited):
            # What is opened is dispatched at once, not by the sweep; trouble that lasts is met by the next turn.
            if not opened:
                raise
        return tuple(opened)

    def _reserved(self, lease: PollLease, order: ReserveOrder) -> Batch | Literal["empty", "busy"]:
        """Reserve under the lease. It is given back after an answer that is known, unless there is a batch to open."""
        try:
            reply = self._reserve(lease, order)
        except (PortalError, RateLimited, StoreError) as error:
            # The store is asked for tokens only, before anything is sent.
            if not isinstance(error, PortalError) or error.executed == "no":
                self._fencing.release(lease)
            raise
        if reply == "empty":
            self._fencing.release(lease)
        return reply

    @retry_expired_token
    def _reserve(self, lease: PollLease, order: ReserveOrder) -> Batch | Literal["empty", "busy"]:
        with self._portal.queue.reserving() as reserve:
            # The lease begins with the call: it outlives that, not the wait before it.
            if not self._fencing.renew(lease):
                return "busy"
            return reserve(order) or "empty"

    def _known_epoch(self) -> int | None:
        return self._portals.get(self._name).ledger_epoch

    def _refuse_foreign(self) -> None:
        """Before the first poll: was anything reserved that no batch of this ledger holds? Once seen, a person decides.

        Records that are reserved no more were settled by somebody who lives: no reason to begin.
        """
        before = self._portals.get(self._name)
        if before.state is ObservedState.UNDECIDED:
            raise ClaimNeeded(self._name, before.connector)
        ours = self._ledger.open_batches()
        for row in self._portal.queue.reserved():
            if isinstance(row, Record) and row.process_id in ours:
                continue
            portal = self._portals.get(self._name)
            if portal.ledger_epoch is None:
                raise ClaimNeeded(self._name, portal.connector)
            # Another worker's first poll has reserved it since: that one noted the epoch before.
            return

    def _lease(
        self, known: int | None, *, gate: bool, lane: str = DEFAULT_LANE, kind: BatchKind = BatchKind.POLLED
    ) -> PollLease | PollRefused:
        lease = self._fencing.take_poll_lease(known, gate=gate, lane=lane, kind=kind)
        if lease.epoch is not None and lease.epoch != known:
            if known == CLAIMED:
                log.warning("portal claimed, what is reserved will be adopted", extra={"portal": self._name})
            elif known is not None:
                log.warning("ledger lost, recovering from the portal", extra={"portal": self._name})
            self._portals.set_epoch(self._name, lease.epoch)
        return lease

    def _open(self, batch: Batch, kind: BatchKind, *, lease: PollLease, lane: str = DEFAULT_LANE) -> None:
        rows: tuple[Record | MalformedRecord, ...] = (*batch.records, *batch.malformed)
        if not self._write(batch.process_id, rows, kind, poll_token=lease.token, lane=lane):
            # The lease ran out before the ledger was written: the records are orphans now and will be adopted.
            log.error("batch not opened, its records will be adopted", extra={"portal": self._name})

    def _write(
        self,
        process_id: str,
        rows: Iterable[Record | MalformedRecord],
        kind: BatchKind,
        *,
        lane: str = DEFAULT_LANE,
        poll_token: str = "",
        first_seen_ms: int = 0,
    ) -> bool:
        made, unusable = entries(self._name, rows, self._portal.catalogue, self._routes, self._unrouted)
        self._count(made, unusable)
        opened = self._ledger.open(
            process_id, made, kind=kind, lane=lane, poll_token=poll_token, first_seen_ms=first_seen_ms
        )
        return opened is not None

    def _count(self, made: list[Entry], unusable: list[MalformedRecord]) -> None:
        unrouted = sum(1 for entry in made if not entry.pipelines)
        if unrouted:
            self._ledger.count("events_unrouted", unrouted)
        message = "event without a route acknowledged" if self._unrouted == "ack" else "event without a route nacked"
        for name in sorted({entry.event.name for entry in made if not entry.pipelines} - {MALFORMED}):
            if time.monotonic() - _logged_at.get(name, -UNROUTED_LOG_SECONDS) >= UNROUTED_LOG_SECONDS:
                if len(_logged_at) >= MOST_LOGGED_NAMES:
                    _logged_at.clear()
                _logged_at[name] = time.monotonic()
                log.warning(message, extra={"portal": self._name, "event": name})
        for row in unusable:
            log.error("record unreadable, it stays reserved", extra={"portal": self._name, "reason": row.reason})
