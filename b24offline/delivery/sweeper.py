"""What a sweep does about one portal: overdue work is handed out again, and looks at the portal are asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

from b24offline.delivery.redriver import listing_seconds, turn_seconds
from b24offline.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b24offline.delivery.dead_letters import DeadLetterQueue
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Portal
    from b24offline.ledger import Overdue

log = logging.getLogger(__name__)

Look = Literal["adopt", "redrive"]


class Sweeper:
    """Finds what is overdue at one portal."""

    def __init__(self, portal: PortalContext, dead_letter_queue: DeadLetterQueue) -> None:
        self._portal = portal
        self._dead_letter_queue = dead_letter_queue
        self._ledger = portal.ledger
        self._config = portal.config
        self._timers = portal.timers

    def take_overdue(self, *, idle: bool = False) -> Overdue:
        """Return the runs to start, the batches to settle, and the runs that are given up until a person acts.

        ``idle``: no message waits in any queue of steps.
        """
        if not self._config.external_queues:
            self._ledger.hasten_runs(idle=idle)
        return self._ledger.take_overdue()

    def dead_letter(self, overdue: Overdue) -> None:
        """Dead-letter the runs that are given up. One that the store refuses comes again."""
        for run in overdue.exhausted:
            try:
                self._dead_letter_queue.dead_letter(run)
            except StoreError as error:
                # It is due again soon; what is overdue beside it must not wait for the store.
                log.error(  # noqa: TRY400 - the sentence says it all
                    "event not dead-lettered, the store refused its dead letter",
                    extra={"portal": self._portal.name, "run": run.run, "why": str(error)},
                )

    def due_looks(self, portal: Portal) -> Iterator[Look]:
        """Yield the looks at the portal's records that have their turn."""
        if not portal.polled:
            return
        # A call with an unknown answer may be executed yet, and what it leaves is adopted at once.
        soon = self._portal.orphans.unanswered()
        adopt_seconds = self._timers.sweep_seconds if soon else self._timers.sighting_seconds / 3
        if (
            self._config.claim_orphans
            and self._portal.once_per(f"adopt:{portal.name}", adopt_seconds)
            and self._lists_reserved(portal.name)
        ):
            yield "adopt"
        redrive_seconds = turn_seconds(self._timers.redrive_backoff_seconds[0], self._config.requests_per_second)
        if self._portal.once_per(f"redrive:{portal.name}", redrive_seconds):
            yield "redrive"

    def _lists_reserved(self, portal: str) -> bool:
        """Return whether all reserved records are listed this time: seldom while there are thousands and none is an
        orphan.

        Those of dead-lettered events are thousands until a person decides, and a whole list keeps polls out.
        """
        wait = self._timers.sighting_seconds
        seconds = listing_seconds(wait, self._portal.orphans.reserved_count())
        if seconds == listing_seconds(wait, 0) or self._portal.orphans.expected():
            return True
        return self._portal.once_per(f"reserved:{portal}", min(seconds, 3 * wait))
