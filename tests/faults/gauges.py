"""How much there is while a row runs: records that wait, memory of the ledger and of the workers, events per second."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import psutil

from tests.faults.stage import Stage
from tests.support.waiting import NotInTime

LOOK_SECONDS: Final = 1.0
STANDSTILL_SECONDS: Final = 60.0


@dataclass
class Gauges:
    """Samples of one stage, one a second; bytes and seconds.

    Attributes:
        waiting: records in the portal's queue.
        ledger_bytes: memory of the ledger's server.
        worker_bytes: resident memory of all worker processes together.
        seconds: from the first sample to the last.
    """

    stage: Stage
    waiting: list[int] = field(default_factory=list)
    ledger_bytes: list[int] = field(default_factory=list)
    worker_bytes: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def until(self, done: Callable[[], bool], what: str, *, standstill_seconds: float = STANDSTILL_SECONDS) -> None:
        """Sample until something is so, however long a busy machine takes, as long as the queue gets shorter.

        Raises `NotInTime` with ``what`` and the figures when it has not for ``standstill_seconds``.
        """
        began = shorter = time.monotonic()
        while True:
            self.sample()
            now = time.monotonic()
            if self.waiting[-1] < min(self.waiting[:-1], default=1 << 62):
                shorter = now
            self.seconds = now - began
            if done():
                return
            if now - shorter > standstill_seconds:
                raise NotInTime(f"the queue has not become shorter for {standstill_seconds:g} s: {what}; {self}")
            time.sleep(LOOK_SECONDS)

    def sample(self) -> None:
        """Take one sample."""
        self.waiting.append(int(self.stage.control.state()["records"]))
        self.ledger_bytes.append(self.ledger_now())
        self.worker_bytes.append(sum(resident(worker.pid) for worker in self.stage.workers if worker.pid))

    def ledger_now(self) -> int:
        """Bytes that the ledger's server uses now."""
        return int(self.stage.redis.info("memory")["used_memory"])

    @property
    def rate(self) -> float:
        """Records a second that left the queue."""
        return (self.waiting[0] - self.waiting[-1]) / max(self.seconds, 1.0)

    def __str__(self) -> str:
        return (
            f"{self.waiting[0]} -> {self.waiting[-1]} records in {self.seconds:.0f} s, {self.rate:.0f} a second; "
            f"ledger at most {max(self.ledger_bytes) >> 20} MB, workers at most {max(self.worker_bytes) >> 20} MB"
        )


def growth(samples: list[int]) -> float:
    """Return how much higher the second half reaches than the first: 1.0 is flat. Pure."""
    middle = len(samples) // 2
    return max(samples[middle:]) / max(1, *samples[:middle]) if middle else 1.0


def resident(pid: int) -> int:
    """Return the resident memory of a process and its children, bytes."""
    found = 0
    with suppress(psutil.Error):
        main = psutil.Process(pid)
        for one in (main, *main.children(recursive=True)):
            with suppress(psutil.Error):
                found += one.memory_info().rss
    return found
