"""What a portal allows: a leaky bucket for requests, and a sum of execution time per method."""

from __future__ import annotations

from collections import deque
from fnmatch import fnmatchcase
from typing import Final

WINDOW_MINUTES: Final = 10


class LeakyBucket:
    """`holds` requests fit in, `drain` of them leave per second; `off` lets everything pass."""

    def __init__(self, drain: float = 2.0, holds: float = 50.0, *, off: bool = False) -> None:
        self.drain = drain
        self.holds = holds
        self.off = off
        self.refused = 0
        self._level = 0.0
        self._seen = 0.0

    def level(self, now: float) -> float:
        """Return how full it is."""
        return max(0.0, self._level - max(0.0, now - self._seen) * self.drain)

    def admit(self, now: float) -> bool:
        """Pour one request in; return False when it does not fit."""
        level = self.level(now)
        if self.off:
            self._level, self._seen = level, now
            return True
        if level + 1 > self.holds:
            self.refused += 1
            return False
        self._level, self._seen = level + 1, now
        return True


class OperatingTime:
    """Execution time per method in one-minute slots over ten minutes.

    Above `limit_seconds` the next call is refused.

    `costs` maps method globs to seconds charged for each call besides the measured ones.
    """

    def __init__(self, limit_seconds: float = 480.0) -> None:
        self.limit_seconds = limit_seconds
        self.costs: dict[str, float] = {}
        self._slots: dict[str, deque[tuple[int, float]]] = {}

    def used(self, method: str, now: float) -> float:
        """Return seconds charged to a method within the window."""
        return sum(seconds for _, seconds in self._window(method, now))

    def by_method(self, now: float) -> dict[str, float]:
        """Return method -> seconds charged to it within the window."""
        return {method: self.used(method, now) for method in self._slots}

    def reset_at(self, method: str, now: float) -> int:
        """Return the epoch second at which the oldest slot leaves the window."""
        window = self._window(method, now)
        minute = window[0][0] if window else int(now // 60)
        return (minute + WINDOW_MINUTES) * 60

    def refuses(self, method: str, now: float) -> bool:
        """Return whether the next call of a method is refused."""
        return self.used(method, now) > self.limit_seconds

    def charge(self, method: str, now: float, seconds: float) -> None:
        """Add the execution time of a call."""
        seconds += next((cost for glob, cost in self.costs.items() if fnmatchcase(method, glob)), 0.0)
        window = self._window(method, now)
        minute = int(now // 60)
        if window and window[-1][0] == minute:
            window[-1] = (minute, window[-1][1] + seconds)
        else:
            window.append((minute, seconds))

    def clear(self) -> None:
        """Forget all charges."""
        self._slots.clear()

    def _window(self, method: str, now: float) -> deque[tuple[int, float]]:
        window = self._slots.setdefault(method, deque())
        while window and window[0][0] <= int(now // 60) - WINDOW_MINUTES:
            window.popleft()
        return window
