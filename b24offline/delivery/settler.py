"""Settles one batch: acknowledges what is done, nacks what failed, keeps the rest. Any number of times, by anybody.

The steps S1 to S5 of `docs/architecture.md`. Decisions are made by `plan_settlement`; here are only the calls between
them, in an order in which a death at any point leaves a state that the next settle continues from.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from b24offline.delivery.settlement import DONE, SettlePlan, SettleView, needs_look, plan_settlement
from b24offline.errors import PortalError, RateLimited, StoreError
from b24offline.failpoints import failpoint
from b24offline.ledger import is_synthetic, note_failures
from b24offline.rest import QUEUE_PAGE, ClearOrder, NackOrder, NackRules, NotAnswering, retry_expired_token

if TYPE_CHECKING:
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Record
    from b24offline.ledger import SettleLease

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SettleResult:
    """What one settle did. ``state``: "closed", "open", "gone", "busy", "lost" or "damaged"."""

    state: str
    acknowledged: int = 0
    nacked: int = 0
    kept: int = 0


class Settler:
    """Settles batches of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._ledger = portal.ledger
        self._fencing = portal.fencing
        self._timers = portal.timers
        timers = portal.timers
        self._rules = NackRules(
            minimum_age_ms=round(timers.nack_age_seconds * 1000),
            look_valid_ms=round(timers.settle_lease_seconds * 500),
        )

    def settle(self, process_id: str) -> SettleResult:
        """Settle as far as it can be settled now.

        Raises `PortalError`, `RateLimited` or `StoreError`; the batch then comes again by its due time.
        """
        settling = self._ledger.begin_settle(process_id)
        if settling == "damaged":
            heir = "reconciliation" if is_synthetic(process_id) else "adoption"
            reply = {"portal": self._portal.name, "process_id": process_id}
            log.error(f"batch damaged in the ledger, given to {heir}", extra=reply)
            self._ledger.forget(process_id)
            return SettleResult("damaged")
        if isinstance(settling, str):
            return SettleResult(settling)
        try:
            return self._settle(settling)
        except (PortalError, RateLimited, StoreError) as error:
            due = self._timers.settle_due_seconds
            self._ledger.end_settle(settling, (), error.wait_seconds if isinstance(error, NotAnswering) else due)
            raise

    def _settle(self, settling: SettleLease) -> SettleResult:
        failpoint("settle.leased")
        if is_synthetic(settling.process_id):
            return self._end_synthetic(settling)
        view = SettleView(
            outcomes=settling.outcomes,
            events=settling.events,
            live=None,
            newer={},
            in_doubt_until_ms=self._fencing.in_doubt_until_ms({event.message_id for event in settling.events.values()}),
            now_ms=settling.now_ms,
            nackable_at_ms=settling.first_seen_ms + self._rules.minimum_age_ms,
        )
        if needs_look(view):
            view = self._looked(view, settling)
            failpoint("settle.looked")
        plan = plan_settlement(view)
        if plan.clear and not self._clear(settling, view, plan):
            return SettleResult("lost", kept=len(view.outcomes))
        # Again what `_nack` has noted: its answer may have been lost, or its process have died.
        failed = [record for record in plan.gone if view.outcomes[record] == "failed"]
        note_failures(self._portal.redis, self._ledger, settling.process_id, failed)
        done = [*plan.gone, *plan.clear]
        self._end_dead_letters(settling, done)
        nacked = len(plan.nack) if plan.nack and self._nack(settling, view, plan) else 0
        # What was nacked is dropped only by a later look that finds it gone: the answer alone proves nothing.
        wait = self._next_look_seconds(plan, view.now_ms)
        failpoint("settle.before_end")
        state = self._ledger.end_settle(settling, done, wait)
        return SettleResult(state, len(plan.clear), nacked, len(plan.keep))

    def _end_synthetic(self, settling: SettleLease) -> SettleResult:
        """Drop what is done of a synthetic batch: no record of the portal stands behind it. Send nothing."""
        done = [record for record, outcome in settling.outcomes.items() if outcome in DONE]
        self._end_dead_letters(settling, done)
        state = self._ledger.end_settle(settling, done, self._timers.settle_due_seconds)
        if state != "lost":
            self._ledger.count("synthetic_done", len(done))
        return SettleResult(state, kept=len(settling.outcomes) - len(done))

    def _end_dead_letters(self, settling: SettleLease, done: list[int]) -> None:
        """Before the ledger forgets the records, so that a death in between ends the dead letters the next time."""
        for record in done:
            if settling.events[record].retrying:
                self._portal.store.dead_letters.end_of_record(self._portal.name, record)

    def _looked(self, view: SettleView, settling: SettleLease) -> SettleView:
        """S1: what the batch still holds, and whether failed records have newer ones."""
        looked_ms = self._ledger.now_ms()
        live: dict[int, Record] = {
            r.record_id: r for r in self._portal.queue.reread(settling.process_id, view.events).records
        }
        view = replace(view, live=live, now_ms=looked_ms)
        failed = [live[record] for record in plan_settlement(view).look]
        newer: dict[int, bool] = {}
        for start in range(0, len(failed), QUEUE_PAGE):
            newer |= self._portal.queue.newer(failed[start : start + QUEUE_PAGE])
            # However slow the portal is, time must be left to nack what was looked up.
            if self._ledger.now_ms() - looked_ms > self._rules.look_valid_ms // 2:
                break
        return replace(view, newer=newer)

    @retry_expired_token
    def _clear(self, settling: SettleLease, view: SettleView, plan: SettlePlan) -> bool:
        """S2: acknowledge what is done. False, and nothing sent, when the settle lease is lost by the call's turn."""
        with self._portal.queue.clearing() as clear:
            # A second settler that saw no newer record must not nack a superseded one meanwhile: its `error` would
            # find the record gone and delete the next change instead.
            if not self._own(settling, view, plan.superseded):
                return False
            failpoint("settle.before_clear")
            clear(ClearOrder(settling.process_id, plan.clear))
        self._ledger.count_acknowledged(settling, len(plan.clear), superseded=len(plan.superseded))
        return True

    @retry_expired_token
    def _nack(self, settling: SettleLease, view: SettleView, plan: SettlePlan) -> bool:
        """S3: nack what failed. False, and nothing sent, when the lease is lost or the look old by the call's turn."""
        records = tuple((view.live or {})[record] for record in plan.nack)
        with self._portal.queue.nacking() as nack:
            if self._ledger.now_ms() - view.now_ms > self._rules.look_valid_ms:
                return False
            left_seconds = self._own(settling, view, plan.nack)
            if not left_seconds:
                return False
            now_ms = self._ledger.now_ms()
            failpoint("settle.before_error")
            nack(
                NackOrder(
                    process_id=settling.process_id,
                    records=records,
                    newer=view.newer,
                    first_seen_ms=settling.first_seen_ms,
                    looked_ms=view.now_ms,
                    now_ms=now_ms,
                    lease_until_ms=now_ms + round(left_seconds * 1000),
                    rules=self._rules,
                )
            )
        note_failures(self._portal.redis, self._ledger, settling.process_id, plan.nack)
        self._ledger.count("events_nacked", len(records))
        reply = {"events": sorted({record.name for record in records}), "record_ids": sorted(plan.nack)}
        log.warning("events nacked on the portal", extra={"portal": self._portal.name, **reply})
        return True

    def _own(self, settling: SettleLease, view: SettleView, records: tuple[int, ...]) -> float:
        """Open an in-doubt window for failed records, right before a call about them. Return the seconds left of the
        lease.

        0.0, and nothing noted, when the lease is lost: after a long stop, or a long wait for the call's turn, another
        settle may have nacked them by now.
        """
        return self._fencing.open_in_doubt_window({view.events[record].message_id for record in records}, settling)

    def _next_look_seconds(self, plan: SettlePlan, now_ms: int) -> float:
        if plan.nack or plan.look:
            return self._timers.sweep_seconds
        if plan.again_at_ms is not None:
            return min(self._timers.settle_due_seconds, max(0.0, (plan.again_at_ms - now_ms) / 1000))
        return self._timers.settle_due_seconds
