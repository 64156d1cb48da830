"""What a sweep does about one portal: overdue work is handed out again, and looks at the portal are asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from b24offline.delivery.redriver import turn_seconds
from b24offline.errors import StoreError

if TYPE_CHECKING:
    from b24offline.config import Timers
    from b24offline.delivery.dead_letters import DeadLetterQueue
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Portal
    from b24offline.ledger import Glance, Look, Overdue

log = logging.getLogger(__name__)


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

    def due_looks(self, portal: Portal, glance: Glance) -> tuple[Look, ...]:
        """Return the looks at the portal's records that have their turn."""
        if not portal.polled:
            return ()
        looks: tuple[Look, ...] = ("adopt", "redrive") if self._config.claim_orphans else ("redrive",)
        redrive_seconds = turn_seconds(self._timers.redrive_backoff_seconds[0], self._config.requests_per_second)
        return tuple(look for look in looks if is_due(look, glance, self._timers, redrive_seconds))


def may_have_orphans(glance: Glance, timers: Timers) -> bool:
    """Return whether records that nobody knows of may be reserved, or the last look at what is was cut off. Pure."""
    lost_lately = bool(glance.lost_ms) and glance.now_ms - glance.lost_ms < timers.idle_look_seconds * 1000
    return glance.unanswered or glance.orphans or glance.cut_off or lost_lately


def is_active(glance: Glance, timers: Timers) -> bool:
    """Return whether records were reserved lately. What nobody knows of is lost where there is something. Pure."""
    return glance.busy or glance.now_ms - glance.active_ms < timers.idle_look_seconds * 1000


def is_quiet(glance: Glance, timers: Timers) -> bool:
    """Return whether nothing waits at a portal, and nothing is known that may have been lost. Pure."""
    waits = glance.open_work or glance.jobs or glance.failed or glance.busy
    return not (waits or may_have_orphans(glance, timers))


def is_due(look: Look, glance: Glance, timers: Timers, redrive_seconds: float) -> bool:
    """Return whether a look has its turn. ``redrive_seconds``: between two turns at nacked records. Pure.

    Each look is a request, and of thousands of portals most are idle: there it comes seldom.
    """
    seconds = timers.idle_look_seconds
    if look == "adopt" and glance.unanswered:
        # The portal may execute the call yet, and what it leaves is adopted at once.
        seconds = timers.sweep_seconds
    elif look == "adopt" and may_have_orphans(glance, timers):
        seconds = timers.sighting_seconds / 3
    elif look == "redrive" and glance.failed:
        seconds = redrive_seconds
    elif is_active(glance, timers):
        seconds = timers.sighting_seconds
    return glance.now_ms - glance.asked_ms.get(look, 0) >= seconds * 1000
