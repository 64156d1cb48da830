"""Many portals of one stage, some of them sick: how long changes of the healthy ones wait for acknowledgement."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from b24offline import keys
from b24offline.emulator import Control
from tests.faults.gauges import Gauges, growth
from tests.faults.stage import PORTAL, Stage, wait_until

ALL_BUT_RESERVING: Final = ("batch", "event.offline.[!g]*")
"""Globs of the calls that a deployment makes at a portal, which still hands out records."""
MARGIN_MS: Final = 500
"""How long a worker may take, on a busy machine, to give up a call that is late."""


def names(prefix: str, count: int) -> tuple[str, ...]:
    """Return names of portals."""
    return tuple(f"{prefix}{number:02d}" for number in range(count))


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the value that this part of the samples does not exceed. Pure."""
    return sorted(samples)[max(0, math.ceil(len(samples) * part) - 1)]


@dataclass
class Phase:
    """Seconds from change to acknowledgement, bytes, and calls to the sick portals, while something was so."""

    what: str
    waits: list[float] = field(default_factory=list)
    worker_bytes: list[int] = field(default_factory=list)
    ledger_bytes: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    @property
    def p95(self) -> float:
        """What 95 of 100 changes wait at most."""
        return quantile(self.waits, 0.95)

    @property
    def usually_held(self) -> float:
        """How many calls to sick portals are late at most, for nine tenths of the time; each holds a process."""
        return quantile(self.held, 0.9)

    def __str__(self) -> str:
        return (
            f"{self.what}: p50 {quantile(self.waits, 0.5):.2f} s, p95 {self.p95:.2f} s, longest "
            f"{max(self.waits):.2f} s of {len(self.waits)} changes; processes held by sick portals: "
            f"{sum(self.held) / len(self.held):.2f}, p90 {self.usually_held:g}, at most {max(self.held)}; "
            f"workers {max(self.worker_bytes) >> 20} MB (x {growth(self.worker_bytes):.2f}), "
            f"ledger {max(self.ledger_bytes) / (1 << 20):.1f} MB (x {growth(self.ledger_bytes):.2f})"
        )


class Crowd:
    """The portals of a stage: the default one and ``sick``, which fall ill, and ``healthy``."""

    def __init__(self, stage: Stage, healthy: Sequence[str], sick: Sequence[str]) -> None:
        self.stage = stage
        self.gauges = Gauges(stage)
        self.healthy = {name: stage.connect(name) for name in healthy}
        self.sick = {PORTAL: stage.control, **{name: stage.connect(name) for name in sick}}
        wait_until(lambda: all(one.state()["bindings"] for one in self.everyone), "all portals are bound", 300)

    @property
    def everyone(self) -> Iterator[Control]:
        """The controls of all portals."""
        return itertools.chain(self.healthy.values(), self.sick.values())

    def empty(self) -> bool:
        """Return whether nothing is left in any portal's queue."""
        return all(one.state()["records"] == 0 for one in self.everyone)

    def open_batches(self) -> list[int]:
        """Return how many batches of each sick portal are open."""
        return [len(self.stage.runtime.services(name).ledger.open_batches()) for name in self.sick]

    def held(self) -> int:
        """Return how many calls to the sick portals are late by now: what they take, however busy the machine."""
        runtime = self.stage.runtime
        late_ms = runtime.rate_limiter.slots.rules.late_seconds * 1000 + MARGIN_MS
        with self.stage.redis.pipeline(transaction=False) as pipe:
            for name in self.sick:
                pipe.hgetall(keys.calls(runtime.services(name).ledger.stem))
            calls = [value for found in pipe.execute() for name, value in found.items() if name.startswith("call:")]
        now_ms = runtime.services(PORTAL).ledger.now_ms()
        return sum(now_ms - int(value.split()[3]) > late_ms for value in calls)

    def measure(self, what: str, *, rounds: int, round_seconds: float = 5.0, sick_too: bool = False) -> Phase:
        """Change a deal of each healthy portal in turn, round after round, and wait for all acknowledgements.

        Slow enough for a busy machine: where it waits for a core already, what the sick ones take is not seen.
        ``sick_too``: in each round, one of each sick portal as well.
        """
        phase, pause = Phase(what), round_seconds / len(self.healthy)
        before = {
            name: max((one["seq"] for one in control.history()), default=0) for name, control in self.healthy.items()
        }
        for _ in range(rounds):
            for control in self.sick.values() if sick_too else ():
                control.change("crm_deal", "add")
            for control in self.healthy.values():
                control.change("crm_deal", "update")
                time.sleep(pause)
                phase.held.append(self.held())
            self._look(phase)
        wait_until(
            lambda: all(one.state()["records"] == 0 for one in self.healthy.values()), f"{what}: all settled", 600
        )
        self._look(phase)
        for name, control in self.healthy.items():
            phase.waits += waits(control.history(before[name]))
        self.stage.tell(str(phase))
        return phase

    def _look(self, phase: Phase) -> None:
        self.gauges.sample()
        phase.worker_bytes.append(self.gauges.worker_bytes[-1])
        phase.ledger_bytes.append(self.gauges.ledger_bytes[-1])


def waits(history: Iterator[dict[str, Any]]) -> list[float]:
    """Return how long each record waited from the change that queued it until it was cleared. Pure."""
    queued: dict[int, float] = {}
    found = []
    for one in history:
        if one["kind"] == "queued":
            queued[one["id"]] = one["wall"]
        elif one["kind"] == "cleared" and one["id"] in queued:
            found.append(one["wall"] - queued.pop(one["id"]))
    return found
