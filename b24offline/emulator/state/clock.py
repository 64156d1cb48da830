"""The portal's clock: starts at the wall clock, may run faster, may be moved ahead."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PORTAL_ZONE: Final = timezone(timedelta(hours=2))
"""The zone in which the portal writes its stamps; portals use their server's zone, not the caller's."""


class Clock:
    """Seconds since the epoch as the portal sees them.

    `start` is the first value, `rate` the portal seconds per real second, `ticks` a monotonic source in
    seconds.
    """

    def __init__(
        self,
        start: float | None = None,
        rate: float = 1.0,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ticks = ticks
        self._base = time.time() if start is None else start
        self._mark = ticks()
        self._rate = rate

    @property
    def rate(self) -> float:
        """Return portal seconds that pass in one real second."""
        return self._rate

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._base + (self._ticks() - self._mark) * self._rate

    def advance(self, seconds: float) -> None:
        """Move the clock ahead; raise ValueError for a negative value: stamps and expiry rely on its order."""
        if seconds < 0:
            raise ValueError(f"a clock is only moved ahead, not by {seconds:g} s")
        self._base += seconds

    def set_rate(self, rate: float) -> None:
        """Let the clock run at another speed from now on; raise ValueError unless it is positive."""
        if rate <= 0:
            raise ValueError(f"a clock rate is greater than 0, not {rate}")
        self._base, self._mark = self.now(), self._ticks()
        self._rate = rate


def iso(seconds: float) -> str:
    """Write a moment as the portal does: ISO 8601, whole seconds, with offset."""
    return datetime.fromtimestamp(int(seconds), PORTAL_ZONE).isoformat()


def parse_moment(text: str) -> float:
    """Read a moment from a filter: ISO 8601, with a blank or T; without an offset it is the portal's zone.

    Raise ValueError when it is neither.
    """
    moment = datetime.fromisoformat(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=PORTAL_ZONE)
    return moment.astimezone(UTC).timestamp()
