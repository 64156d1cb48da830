"""Calls that the portal executes some time after their reply was lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.emulator.state import Clock

_LONGEST_WAIT_SECONDS = 0.1


class Later:
    """Runs functions at their moment on the portal's clock, in a thread that ends when none is left."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, Callable[[], object]]] = []
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    @property
    def waiting(self) -> int:
        """Return how many functions have not begun."""
        return len(self._waiting)

    def add(self, due: float, function: Callable[[], object]) -> None:
        """Run `function` at `due`, in portal seconds since the epoch."""
        with self._lock:
            self._waiting.append((due, function))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="later", daemon=True)
                self._thread.start()
        self._changed.set()

    def _work(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                now = self._clock.now()
                due = [call for call in self._waiting if call[0] <= now]
                self._waiting = [call for call in self._waiting if call[0] > now]
                first = min((call[0] for call in self._waiting), default=now)
                pause = (first - now) / self._clock.rate
            for _, function in sorted(due, key=lambda call: call[0]):
                function()
            self._changed.wait(min(max(pause, 0.001), _LONGEST_WAIT_SECONDS))
