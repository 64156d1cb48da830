"""Reserves records of one portal and writes them into the ledger, before anything is dispatched.

Three ways in, all under the poll lease: a poll of free records, the adoption of orphans, and the redrive of nacked
records. The lease is given back after an answer that is known; after an unknown one it runs out by itself. What was
reserved is looked for at once, by this process and by whoever has the lease next, and adopted.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from b24offline.config import DEFAULT_LANE
from b24offline.delivery.adopter import Adopter
from b24offline.delivery.batch_opener import BatchOpener
from b24offline.delivery.portal_bounds import Closed, PortalBounds
from b24offline.errors import ClaimNeeded, PortalError, RateLimited, StoreError
from b24offline.events import CLAIMED, Batch, MalformedRecord, ObservedState, Record
from b24offline.failpoints import failpoint
from b24offline.ledger import BatchKind, PollLease, PollRefused, forget_nacked
from b24offline.rest import ReserveOrder, retry_expired_token

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.config import Lane
    from b24offline.delivery.portal_context import PortalContext

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PollResult:
    """What a poll brought. ``opened``: process ids to dispatch; ``asked``: for how many records.

    "adopted": what a reserving call left whose answer is unknown. Nothing was sent unless it is that, "empty" or
    "opened".
    """

    state: Literal["empty", "opened", "adopted"] | Closed | Literal["busy", "full", "over_quota", "recovering"]
    received: int = 0
    opened: tuple[str, ...] = ()
    asked: int = 0


class Poller:
    """The ways into the ledger of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._name = portal.name
        self._fencing = portal.fencing
        self._routes = portal.routes
        self._portals = portal.store.portals
        self._bounds = PortalBounds(portal)
        self._opener = BatchOpener(portal, self._bounds)
        self._adopter = Adopter(portal, self._opener, self._bounds)

    def poll(self, lane: Lane) -> PollResult:
        """Reserve one batch of free records for a lane and open it.

        Raises `ClaimNeeded`, nothing reserved, when this deployment never polled the portal and somebody else's
        records are reserved there.
        """
        if closed := self._bounds.closed():
            return PollResult(closed)
        known = self._known_epoch()
        if known is None:
            self._refuse_foreign()
        asked = self._bounds.batch_size(lane)
        lease = self._lease(known, gate=True, lane=lane.name, places=math.ceil(asked / lane.batch_size))
        if isinstance(lease, PollRefused):
            self._bounds.note_refused(lease.reason)
            return PollResult(lease.reason)
        failpoint("poll.leased")
        batch = self._reserved(lease, ReserveOrder(asked, lane.order, lane.filter))
        if isinstance(batch, tuple):
            return PollResult("adopted", len(batch), batch, asked)
        if not isinstance(batch, Batch):
            if batch == "empty":
                self._bounds.note_received(lane, 0, asked)
            return PollResult(batch, asked=asked)
        self._bounds.note_batch(batch)
        received = len(batch.records) + len(batch.malformed)
        self._open(batch, BatchKind.POLLED, lease=lease, lane=lane.name)
        self._bounds.note_received(lane, received, asked)
        return PollResult("opened", received, (batch.process_id,), asked)

    def adopt(self) -> tuple[str, ...]:
        """Go on with the look at all that is reserved, and open the orphans that may be adopted. Return process ids.

        Nothing before the first poll, which decides whose they are; so with `redrive`. A nacked record that no pipeline
        takes stays an orphan: it cannot succeed and must not be nacked twice, so it waits for a worker with its route.
        """
        known = self._known_epoch()
        if known is None:
            return ()
        lease = self._lease(known, gate=False)
        if isinstance(lease, PollLease):
            # Only to learn whether the ledger is whole: a look may take long, and must not keep polls out.
            self._fencing.release(lease)
        self._adopter.look()
        if not self._portal.orphans.due() or isinstance(lease := self._lease(known, gate=False), PollRefused):
            return ()
        try:
            return self._adopter.adopt(lease)
        finally:
            self._fencing.release(lease)

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
                if isinstance(batch, tuple):
                    opened += batch
                elif isinstance(batch, Batch):
                    self._open(batch, BatchKind.RETRYING, lease=lease)
                    opened.append(batch.process_id)
                    forget_nacked(self._portal.redis, self._portal.ledger, [record.record_id])
        except (PortalError, RateLimited):
            # What is opened is dispatched at once, not by the sweep; trouble that lasts is met by the next turn.
            if not opened:
                raise
        return tuple(opened)

    def _reserved(self, lease: PollLease, order: ReserveOrder) -> Batch | tuple[str, ...] | Literal["empty", "busy"]:
        """Reserve under the lease. It is given back after an answer that is known, unless there is a batch to open.

        Return the process ids of what was adopted instead, when the answer to this call, or to that of the lease
        before, is unknown, and has left something.
        """
        if lease.unanswered and (adopted := self._adopter.at_once(lease)):
            self._fencing.release(lease)
            return adopted
        try:
            reply = self._reserve(lease, order)
        except (PortalError, RateLimited, StoreError) as error:
            self._bounds.note_answer(error, order.limit)
            # The store is asked for tokens only, before anything is sent.
            if not isinstance(error, PortalError) or error.executed == "no":
                self._fencing.release(lease)
            elif adopted := self._adopter.at_once(lease):
                return adopted
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
        return self._portals.ledger_epoch(self._name)

    def _refuse_foreign(self) -> None:
        """Before the first poll: was anything reserved that no batch of this ledger holds? Once seen, a person decides.

        Records that are reserved no more were settled by somebody who lives: no reason to begin.
        """
        before = self._portals.get(self._name)
        if before.state is ObservedState.UNDECIDED:
            raise ClaimNeeded(self._name, before.connector)
        ours = self._portal.ledger.open_batches()
        for row in self._portal.queue.reserved():
            if isinstance(row, Record) and row.process_id in ours:
                continue
            portal = self._portals.get(self._name)
            if portal.ledger_epoch is None:
                raise ClaimNeeded(self._name, portal.connector)
            # Another worker's first poll has reserved it since: that one noted the epoch before.
            return

    def _lease(
        self,
        known: int | None,
        *,
        gate: bool,
        lane: str = DEFAULT_LANE,
        kind: BatchKind = BatchKind.POLLED,
        places: int = 1,
    ) -> PollLease | PollRefused:
        lease = self._fencing.take_poll_lease(known, gate=gate, lane=lane, kind=kind, places=places)
        if lease.epoch is not None and lease.epoch != known:
            if known == CLAIMED:
                log.warning("portal claimed, what is reserved will be adopted", extra={"portal": self._name})
            elif known is not None:
                log.warning("ledger lost, recovering from the portal", extra={"portal": self._name})
            self._portals.set_epoch(self._name, lease.epoch)
        return lease

    def _open(self, batch: Batch, kind: BatchKind, *, lease: PollLease, lane: str = DEFAULT_LANE) -> None:
        rows: tuple[Record | MalformedRecord, ...] = (*batch.records, *batch.malformed)
        if not self._opener.open(batch.process_id, rows, kind, lease, lane=lane):
            # The lease ran out before the ledger was written: the records are orphans now and will be adopted.
            log.error("batch not opened, its records will be adopted", extra={"portal": self._name})
