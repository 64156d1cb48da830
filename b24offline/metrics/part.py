"""One source of metrics, read by a thread of its own: never twice at once, and no scrape waits for it without bound."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PAUSES: Final = 2.0
"""The pause after a reading, in multiples of what it took."""


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[_T]):
    """What was read. ``at``: when the reading ended, on the monotonic clock; ``seconds``: how long it took."""

    value: _T
    at: float
    seconds: float


class Part(Generic[_T]):
    """Reads with ``read`` when it is asked and what it has is older than ``fresh_seconds``, or twice as long as the
    reading took: a large deployment must not be read without pause.

    While a reading lasts or hangs, what was read before is shown until it is older than ``stale_seconds``. After one
    that failed nothing is shown.
    """

    def __init__(self, name: str, read: Callable[[], _T], *, fresh_seconds: float, stale_seconds: float) -> None:
        self.name = name
        self._read = read
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._snapshot: Snapshot[_T] | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()

    def begin(self) -> None:
        """Begin a new reading if one is due, and wait for nothing."""
        with self._changed:
            if self._age() > self._fresh() and self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"read-{self.name}", daemon=True)
                self._thread.start()

    def latest(self, wait_seconds: float) -> Snapshot[_T] | None:
        """Return what was read last, after a new reading if that ends in time. None: it cannot be read."""
        self.begin()
        with self._changed:
            if self._age() > self._fresh():
                self._changed.wait_for(lambda: self._thread is None, wait_seconds)
            return self._snapshot if self._age() <= max(self._stale_seconds, self._fresh()) else None

    def _age(self) -> float:
        return float("inf") if self._snapshot is None else time.monotonic() - self._snapshot.at

    def _fresh(self) -> float:
        return max(self._fresh_seconds, _PAUSES * self._snapshot.seconds if self._snapshot else 0.0)

    def _run(self) -> None:
        began, snapshot = time.monotonic(), None
        try:
            value, ended = self._read(), time.monotonic()
            snapshot = Snapshot(value, ended, ended - began)
        except Exception as error:  # noqa: BLE001 - whatever the source raises: it is not up
            log.warning("metrics cannot be read", extra={"part": self.name, "why": type(error).__name__})
        with self._changed:
            self._snapshot, self._thread = snapshot, None
            self._changed.notify_all()
