"""Redrives nacked records, at a rate that leaves room for new events.

After a bad deployment there may be thousands. They must not wait for days, and they must not take the portal's
rate away from new events: neither by running, nor by being listed over and over.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from b24offline.errors import PortalError, RateLimited

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from b24offline.delivery.dispatcher import Dispatcher, Fetches
    from b24offline.delivery.poller import Poller
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Record

AT_ONCE: Final = 50
"""Nacked records taken in one turn: a page of their list, and as many objects as one request reads."""
AT_LEAST: Final = 5
"""Taken in any turn, however much new events want the portal."""
REQUESTS_EACH: Final = 2
"""What one costs: it is reserved, and it is acknowledged."""
SHARE: Final = 0.5
"""The part of the portal's rate that they may take while there are many."""
LISTED_FREELY: Final = 500
"""So many are listed in ten requests, at every first look; more than that are listed as much less often."""


def turn_seconds(first_wait_seconds: float, requests_per_second: float) -> float:
    """Return seconds between two turns: a third of the first wait of a nacked record, or sooner where the rate allows
    it."""
    return min(first_wait_seconds / 3, AT_ONCE * REQUESTS_EACH / (requests_per_second * SHARE))


def listing_seconds(wait_seconds: float, known: int) -> float:
    """Return seconds between two looks at all records of a kind, of which ``known`` were seen by the last one.

    ``wait_seconds``: what has to pass between the first sight of a record and what is done about it. Looks at nacked
    records between those end as soon as enough of them are due.
    """
    return wait_seconds / 3 * max(1.0, known / LISTED_FREELY)


class Redriver:
    """Takes turns at the nacked records of one portal."""

    def __init__(self, portal: PortalContext, poller: Poller, dispatcher: Dispatcher) -> None:
        self._portal = portal
        self._poller = poller
        self._dispatcher = dispatcher
        self._first_wait_seconds = portal.timers.redrive_backoff_seconds[0]

    def turn(self, fetches: Fetches) -> Iterator[str]:
        """Open records whose wait is over as retrying ones, and yield the batches to dispatch.

        Raise `PortalError` or `RateLimited`, when nothing was opened.
        """
        nacked = self._portal.fencing.due_nacked(self._portal.queue.nacked(), self._first_wait_seconds)
        # Those without a route stay nacked and free; they must not take the place of others.
        due = (record for record in nacked if self._portal.routes.pipelines_for(record.name))
        opened = self._poller.redrive(self._while_no_poll_waits(islice(due, AT_ONCE)))
        self._dispatcher.read_ahead(opened, fetches)
        yield from opened
        seconds = listing_seconds(self._first_wait_seconds, self._portal.fencing.nacked_count())
        if self._portal.once_per(f"nacked:{self._portal.name}", seconds):
            # After those that are due: a portal too busy to list thousands would else keep them waiting.
            with suppress(PortalError, RateLimited):
                deque(nacked, maxlen=0)

    def _while_no_poll_waits(self, due: Iterable[Record]) -> Iterator[Record]:
        """End when a poll has been due for too long: the calls made here keep it out, and new events go first."""
        for number, record in enumerate(due):
            waited_ms = (
                max(self._portal.lanes.waited_ms(self._portal.config.all_lanes).values()) if number >= AT_LEAST else 0
            )
            if waited_ms > self._portal.config.tick_seconds * 1000:
                return
            yield record
