"""One poll of a portal: which lane has its turn, and when the portal is due again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.config import DEFAULT_LANE, choose
from b24offline.delivery.signals import MISSED_SECONDS, are_trusted, was_missed
from b24offline.errors import ClaimNeeded, PortalError, RateLimited, StoreError
from b24offline.events import ObservedState
from b24offline.ledger import next_interval_seconds

if TYPE_CHECKING:
    from b24offline.config import Lane
    from b24offline.delivery.poller import Poller
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.delivery.portal_lifecycle import PortalLifecycle
    from b24offline.delivery.subscriber import Subscriber


LONG_TICKS: Final = 2
"""An interval of more ticks than that is long."""


@dataclass(frozen=True, slots=True)
class PollTurn:
    """What a poll came to.

    Attributes:
        reply: what happened, for the log.
        opened: process ids of the batches to dispatch.
        lane: that of the batches.
        again: whether a lane is due already, so that the next poll is asked for by a message.
        subscribe: whether its events are to be subscribed now: this was the first poll of the portal.
    """

    reply: str
    opened: tuple[str, ...] = ()
    lane: str = ""
    again: bool = False
    subscribe: bool = False


class PollTurns:
    """Polls one portal, lane after lane."""

    def __init__(
        self, portal: PortalContext, poller: Poller, lifecycle: PortalLifecycle, subscriber: Subscriber
    ) -> None:
        self._portal = portal
        self._poller = poller
        self._lifecycle = lifecycle
        self._subscriber = subscriber
        self._lanes = portal.config.all_lanes
        self._half_tick_seconds = portal.config.tick_seconds / 2

    def take(self) -> PollTurn:
        """Poll the lane that has waited longest, and say when the portal is due again."""
        early_ms = round(self._half_tick_seconds * 1000)
        began_ms, waited_ms = self._portal.lanes.read(self._lanes)
        name = choose(self._lanes, {lane: waited + early_ms for lane, waited in waited_ms.items()})
        if name is None:
            return PollTurn("no lane is due", again=self._schedule_next())
        lane = self._lanes[name]
        try:
            polled = self._poller.poll(lane)
        except (PortalError, RateLimited, StoreError, ClaimNeeded) as error:
            seconds = self._lifecycle.note_failure(error)
            self._portal.schedule.set_next(self._portal.name, seconds)
            return PollTurn(f"not polled for {seconds:.0f} s: {type(error).__name__}")
        if polled.state in ("empty", "opened"):
            self._lifecycle.note_success()
            self._portal.lanes.note_room(name)
            self._set_next(lane, began_ms, self._wait_seconds(lane, polled.received, polled.asked))
        elif polled.state == "full":
            self._portal.lanes.note_full(name, self._portal.ledger.now_ms())
            self._set_next(lane, began_ms, lane.interval_min_seconds)
        else:
            # Soon, because the call that is under way, or the wait, is over long before an idle portal's next turn.
            self._portal.schedule.set_next(self._portal.name, self._portal.config.poll_interval_min_seconds)
            return PollTurn(f"{name} {polled.state}", polled.opened, DEFAULT_LANE)
        reply = f"{name} {polled.state}: {polled.received}"
        again = self._schedule_next()
        return PollTurn(reply, polled.opened, name, again=again, subscribe=self._subscribes_now())

    def resume(self) -> bool:
        """After a batch was settled: make the lanes due that were full. Return whether a poll is to be sent at once.

        A portal whose polls are suspended keeps its back-off.
        """
        return self._portal.portal.state is ObservedState.ACTIVE and self._portal.lanes.resume(self._lanes) > 0

    def _subscribes_now(self) -> bool:
        """Return whether this poll was the first: nothing is subscribed before it, and no tick is waited for."""
        if self._portal.portal.ledger_epoch is not None:
            return False
        return self._subscriber.due(self._portal.store.portals.get(self._portal.name))

    def _wait_seconds(self, lane: Lane, received: int, asked: int) -> float:
        """Return how long a lane waits after a poll. While signals are heard an idle one waits for long."""
        previous, ceiling = self._portal.lanes.interval_seconds(lane.name), lane.interval_max_seconds
        config = self._portal.config
        if config.push_url:
            signals, now_ms = self._portal.lanes.signals(), self._portal.ledger.now_ms()
            after_empty = received and previous > lane.interval_min_seconds
            if after_empty and was_missed(signals, now_ms, MISSED_SECONDS * config.time_scale):
                self._portal.lanes.note_missed()
            elif are_trusted(signals):
                ceiling = max(ceiling, config.push_idle_seconds)
        return next_interval_seconds(previous, received, asked, lane.interval_min_seconds, ceiling)

    def _set_next(self, lane: Lane, began_ms: int, seconds: float) -> None:
        self._portal.lanes.set_next(
            lane.name, seconds, polled_ms=began_ms, soon_seconds=min(seconds, lane.interval_min_seconds)
        )

    def _schedule_next(self) -> bool:
        """Make the portal due when its next lane is. Return whether one is due already."""
        waited = self._portal.lanes.waited_ms(self._lanes)
        wait = max(0.0, -max(waited.values()) / 1000)
        if wait > LONG_TICKS * self._portal.config.tick_seconds:
            # A tick finds it up to a tick later: half a tick sooner, a long interval is as long as it is set.
            wait -= self._half_tick_seconds
        # As far off as tick itself puts it: while polls take longer than that, each would bring a second one along.
        self._portal.schedule.set_next(self._portal.name, wait or self._portal.config.poll_interval_max_seconds)
        return wait <= 0
