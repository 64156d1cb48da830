"""The portal's signals that records have arrived: what they let a poll wait for, and what they wake. A hint only.

Polls remain the source of truth: a signal is sent once, and nobody tells when it was lost. While signals are heard,
idle portals are polled rarely; a poll that finds what no signal told of takes that back until one is heard again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.events import ObservedState

if TYPE_CHECKING:
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.ledger import Signals

MISSED_SECONDS: Final = 60.0
"""A record that is found so long after the last signal came without one."""


def are_trusted(signals: Signals) -> bool:
    """Return whether signals come: one was heard, and none was missed since. Pure."""
    return signals.heard_ms > signals.missed_ms


def was_missed(signals: Signals, now_ms: int, missed_seconds: float = MISSED_SECONDS) -> bool:
    """Return whether records that are found now, after an empty poll, came without a signal that was due. Pure."""
    return are_trusted(signals) and now_ms - signals.heard_ms > missed_seconds * 1000


class Waker:
    """Makes one portal due when it signals."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._least = {name: lane.interval_min_seconds for name, lane in portal.config.all_lanes.items()}

    def wake(self) -> bool:
        """Note a signal and make the portal due. Return whether a poll is to be sent at once.

        A portal whose polls are suspended keeps its back-off: nobody may call it more often than it bears.
        """
        portal = self._portal.portal
        wait = self._portal.lanes.wake(self._least)
        if not portal.polled or portal.state is not ObservedState.ACTIVE:
            return False
        # Where a poll is sent at once, the tick only follows in case that its message is lost.
        self._portal.schedule.hasten(portal.name, wait or self._portal.config.poll_interval_min_seconds)
        return wait <= 0
