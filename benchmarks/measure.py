"""Rounds: each contestant in turn handles the same number of events while all others rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.brokers import Brokers
from benchmarks.contestant import Contestant
from benchmarks.counts import Counts, cpu_seconds
from tests.support.waiting import wait_until

BASE = "bare-chain"
_WARM_UP_EVENTS = 200
_LOOK_SECONDS = 0.01


@dataclass(frozen=True)
class Turn:
    """One contestant in one round: seconds, CPU seconds of its workers, and what was counted."""

    events: int
    seconds: float
    cpu_seconds: float
    counts: Counts

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an event."""
        return 1000 * self.cpu_seconds / self.events


@dataclass
class Standing:
    """A contestant that has started, and its turns."""

    contestant: Contestant
    handled: int = 0
    turns: list[Turn] = field(default_factory=list)

    def turn(self, events: int) -> Turn:
        """Let it handle so many events; it rests before and after."""
        before = self.contestant.counts()
        self.contestant.feed(events)
        self.contestant.wake()
        self.handled += events
        cpu, began = cpu_seconds(self.contestant.process_ids), time.monotonic()
        self.contestant.resume()
        what = f"{self.contestant.name} has handled {events} events"
        wait_until(lambda: self.contestant.finished(self.handled), what, pause_seconds=_LOOK_SECONDS)
        seconds = time.monotonic() - began
        cpu = cpu_seconds(self.contestant.process_ids) - cpu
        self.contestant.pause()
        return Turn(events, seconds, cpu, self.contestant.counts() - before)


@dataclass(frozen=True)
class Result:
    """The turns of one contestant, and of the base in the same rounds."""

    name: str
    title: str
    turns: Sequence[Turn]
    base: Sequence[Turn]

    @property
    def rates(self) -> list[float]:
        """Events a second, for each round."""
        return [turn.rate for turn in self.turns]

    @property
    def ratio(self) -> float:
        """Median over the rounds of its rate divided by that of the base in the same round."""
        return median(turn.rate / base.rate for turn, base in zip(self.turns, self.base, strict=True))

    @property
    def cpu_ms(self) -> float:
        """Median of its CPU milliseconds an event."""
        return median(turn.cpu_ms for turn in self.turns)

    def per_event(self, name: str) -> float:
        """Return one of the counts, for each event, over all rounds."""
        return sum(getattr(turn.counts, name) for turn in self.turns) / sum(turn.events for turn in self.turns)


def measure(
    kinds: Mapping[str, type[Contestant]],
    brokers: Brokers,
    folder: Path,
    *,
    rounds: int,
    events: int,
    tell: Callable[[str], object],
) -> list[Result]:
    """Start all contestants, let them take turns, and return what each has reached."""
    with ExitStack() as started:
        standings = {}
        for name, kind in kinds.items():
            tell(f"{brokers.kind}: {name} starts")
            broker = started.enter_context(brokers.broker_for(name))
            entrant = started.enter_context(kind(folder / name, broker))
            entrant.pause()
            standings[name] = Standing(entrant)
        for standing in standings.values():
            standing.turn(_WARM_UP_EVENTS)
        for number in range(rounds):
            for name, standing in standings.items():
                turn = standing.turn(events)
                standing.turns.append(turn)
                tell(f"{brokers.kind}: round {number + 1}, {name}: {turn.rate:.0f} events/s, {turn.cpu_ms:.2f} ms CPU")
    base = standings[BASE].turns
    return [Result(name, kinds[name].title, one.turns, base) for name, one in standings.items()]
