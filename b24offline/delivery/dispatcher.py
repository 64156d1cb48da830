"""Starts the runs of an open batch, after their objects were read in bulk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.delivery.retry_policy import (
    LONGEST_REPEAT_SECONDS,
    may_concern_object,
    refused_too_long,
    uncounted_wait_seconds,
)
from b24offline.errors import PortalError, RateLimited
from b24offline.events import Event
from b24offline.ledger import run_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from b24offline.delivery.object_reader import ObjectReader
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import ObjectKey
    from b24offline.ledger import RunRef

log = logging.getLogger(__name__)

SHORTEST_WAIT_SECONDS: Final = 0.5

Fetches = Callable[[Event, str], bool]
"""Whether a pipeline reads the object of an event."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What is to be done for a batch.

    Attributes:
        lane: that of the batch.
        events: how many it has.
        runs: run -> its event.
        handed: the runs to start now.
        wait_seconds: when to dispatch the batch again, since the portal cannot be read now; 0.0 when it was started.
        settleable: whether to settle the batch now: no run will ask for it, and its events are to be acknowledged.
            Events that are to be nacked wait until they are old enough, and the batch's due time asks for it then.
    """

    lane: str
    events: int
    runs: Mapping[str, Event]
    handed: tuple[RunRef, ...] = ()
    wait_seconds: float = 0.0
    settleable: bool = False


class Dispatcher:
    """Dispatches the batches of one portal."""

    def __init__(self, portal: PortalContext, reader: ObjectReader) -> None:
        self._portal = portal
        self._reader = reader
        self._ledger = portal.ledger
        self._routes = portal.routes
        self._unread = keys.unread(portal.ledger.stem)

    def start(self, process_id: str, fetches: Fetches) -> Dispatch:
        """Read the batch's objects, then hand out its runs; or postpone both. Safe to repeat."""
        events = list(self._ledger.events(process_id).values())
        runs = self._runs(events)
        lane = self._ledger.lane(process_id)
        wait = self._read(process_id, objects_to_read(runs, fetches))
        if wait > 0:
            # Started now, each run would read its object by itself: fifty requests where one would do.
            self._ledger.postpone(process_id, wait)
            return Dispatch(lane, len(events), runs, wait_seconds=wait)
        settleable = bool(events) and not runs and self._portal.config.unrouted == "ack"
        return Dispatch(lane, len(events), runs, self._ledger.start(process_id), settleable=settleable)

    def read_ahead(self, process_ids: Iterable[str], fetches: Fetches) -> None:
        """Read the objects of several batches in one request; each batch reads by itself what is not read here."""
        events = [event for process_id in process_ids for event in self._ledger.events(process_id).values()]
        with suppress(PortalError, RateLimited):
            self._reader.prefetch(objects_to_read(self._runs(events), fetches))

    def _runs(self, events: Iterable[Event]) -> dict[str, Event]:
        return {run_id(event, name): event for event in events for name in self._routes.pipelines_for(event.name)}

    def _read(self, process_id: str, wanted: tuple[ObjectKey, ...]) -> float:
        """Read objects. Return the seconds to wait when the portal cannot be read now.

        At most a minute, as a message waits so long; but after an error that asks for a longer wait no batch of the
        portal reads before that is over.
        """
        if not wanted:
            return 0.0
        left = self._portal.redis.pttl(self._unread) / 1000
        if left > 0:
            return _wait_of_a_message(left)
        try:
            self._reader.prefetch(wanted, self._ledger.opened_ms(process_id))
        except (PortalError, RateLimited) as error:
            passing = uncounted_wait_seconds(error, self._portal.timers, time.time())
            # What does not pass is judged run by run, by the rules of each.
            log.info("objects not read in bulk", extra={"portal": self._portal.name, "why": type(error).__name__})
            if passing is None or self._is_for_an_object(error, passing, process_id):
                return 0.0
            if isinstance(error, PortalError) and passing > LONGEST_REPEAT_SECONDS:
                self._portal.redis.set(self._unread, type(error).__name__, px=round(passing * 1000))
            return _wait_of_a_message(passing)
        return 0.0

    def _is_for_an_object(self, error: Exception, wait_seconds: float, process_id: str) -> bool:
        """Return whether one object of the batch may be what is refused: then each run reads its own, and is judged."""
        if not may_concern_object(error):
            return False
        age_seconds = (self._ledger.now_ms() - self._ledger.opened_ms(process_id)) / 1000
        old = refused_too_long(error, age_seconds, self._portal.timers)
        return old or self._reader.answered_seconds_ago(error, wait_seconds) < wait_seconds


def objects_to_read(runs: Mapping[str, Event], fetches: Fetches) -> tuple[ObjectKey, ...]:
    """Return the objects that runs will fetch, each once. ``runs``: run -> its event. Pure."""
    wanted = (event.object for run, event in runs.items() if event.object and fetches(event, run.partition("/")[2]))
    return tuple(dict.fromkeys(key for key in wanted if key))


def _wait_of_a_message(seconds: float) -> float:
    return min(max(seconds, SHORTEST_WAIT_SECONDS), LONGEST_REPEAT_SECONDS)
