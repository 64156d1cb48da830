"""A row of the fault table: what is done to a deployment, what is allowed to be left of it, and how it came out."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.faults.brokers import Broker
from tests.faults.checker import Verdict, judge, together
from tests.faults.stage import PORTAL, Plan, Stage
from tests.support.waiting import NotInTime, wait_until

Play = Callable[[Stage], None]
UNEXPECTED: Final = "unexpected"
PATIENCE: Final = 3
"""How much longer than on a quiet machine a drain may take. Where a guard is off it need not end."""


@dataclass(frozen=True)
class Row:
    """One fault, or one variant of it.

    Attributes:
        number: its number in the table.
        name: which variant, in few words.
        play: makes traffic and injects the fault; the drain and the checks follow.
        plan: the deployment.
        repeats: how many effects may happen again; None: any.
        overlap: whether runs of one object may overlap, as when the ledger is lost.
        leaves: whether nacked, retrying or dead-lettered records may be left after the drain.
        invisible: whether there may be changes that the portal never queued.
        red: numbers of which one must not be zero, because a guard is off; then that is what makes the row green.
            `UNEXPECTED`: something that the play itself expects must not hold.
        by_chance: whether some of what is armed may meet nothing, because chance decides when and what.
        drain_seconds: how long the drain may take.
        needs: a file without which the row cannot be played; None when it needs none.
        package: the system package that has that file.
        brokers: the kinds of brokers for which it means something.
    """

    number: int
    name: str
    play: Play
    plan: Plan = field(default_factory=Plan)
    repeats: int | None = 0
    overlap: bool = False
    leaves: bool = False
    invisible: bool = False
    red: tuple[str, ...] = ()
    by_chance: bool = False
    drain_seconds: float = 150.0
    needs: Path | None = None
    package: str = ""
    brokers: tuple[str, ...] = ("valkey", "rabbitmq")

    @property
    def title(self) -> str:
        """How the row is called."""
        return f"{self.number} {self.name}"


@dataclass
class Result:
    """How a row came out; ``problems`` is empty when it is green."""

    number: int
    name: str
    broker: str
    seed: int
    injected: list[str] = field(default_factory=list)
    changes: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    leaks: list[str] = field(default_factory=list)
    recovery_seconds: float | None = None
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    logs: str = ""
    measured: list[str] = field(default_factory=list)

    @property
    def green(self) -> bool:
        """Whether the row held."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        found = asdict(self)
        return {"row": found.pop("number"), "green": self.green, **found.pop("verdict"), **found}


_registered: list[Row] = []


def fault(number: int, name: str, **more: Any) -> Callable[[Play], Play]:
    """Register a function as a row: ``@fault(13, "reserving answer lost")``."""

    def register(play: Play) -> Play:
        _registered.append(Row(number, name, play, **more))
        return play

    return register


def rows() -> list[Row]:
    """Return all registered rows, by number and in the order in which they were registered."""
    return sorted(_registered, key=lambda row: row.number)


def run(row: Row, *, seed: int, broker: Broker | None = None, keep_logs: Path | None = None) -> Result:
    """Play a row on a deployment of its own, drain it, and judge. ``broker`` None: a Valkey."""
    kind = "valkey" if broker is None else "rabbitmq"
    result = Result(row.number, row.name, kind, seed)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"b24offline-fault-{row.number}-"))
    try:
        with Stage(folder, row.plan, seed=seed, broker=broker) as stage:
            try:
                _play(row, stage, result)
            except Exception as error:  # noqa: BLE001 - whatever a row meets is its result, and the next row runs
                result.problems.append(f"{type(error).__name__}: {error}")
                if not isinstance(error, AssertionError):
                    result.problems.append(traceback.format_exc(limit=-3))
            try:
                _judge(row, stage, result)
            except Exception as error:  # noqa: BLE001
                result.problems.append(f"not judged: {type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001
        result.problems.append(f"the deployment did not start: {type(error).__name__}: {error}")
    result.seconds = time.monotonic() - began
    if result.problems and keep_logs is not None:
        kept = keep_logs / f"{row.number}-{row.name.replace(' ', '-').replace('/', '-')}-{kind}-{seed}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        for log in folder.glob("*.log"):
            shutil.copy(log, kept)
        result.logs = str(kept)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _play(row: Row, stage: Stage, result: Result) -> None:
    row.play(stage)
    done = stage.at_rest if row.leaves else stage.empty
    with suppress(NotInTime) if row.red else nullcontext():
        wait_until(done, "the queue is drained", row.drain_seconds * (1 if row.red else PATIENCE))
    if stage.last_fault:
        result.recovery_seconds = round(time.time() - stage.last_fault, 1)


def _judge(row: Row, stage: Stage, result: Result) -> None:
    found = [stage.evidence(portal) for portal in (PORTAL, *row.plan.portals)]
    verdict = together([judge(one) for one in found])
    result.verdict, result.changes, result.injected = verdict, sum(len(one.changes) for one in found), stage.injected
    result.leaks, result.measured = sorted(stage.leaks()), stage.measured
    if row.red:
        found_red = {**asdict(verdict), UNEXPECTED: stage.failures}
        if not any(found_red[what] for what in row.red):
            result.problems.append(f"a guard is off, and the checker did not notice: none {' or '.join(row.red)}")
        return
    for what in ("lost", "stale", "unfinished", "destroyed", "stuck", "flooded"):
        cases = getattr(verdict, what)
        if cases:
            result.problems.append(f"{what} {len(cases)}: {'; '.join(cases[:3])}")
    if verdict.overlap and not row.overlap:
        result.problems.append(f"overlap {len(verdict.overlap)}: {'; '.join(verdict.overlap[:3])}")
    if row.repeats is not None and verdict.repeats > row.repeats:
        result.problems.append(f"{verdict.repeats} repeats, allowed are {row.repeats}")
    if verdict.invisible and not row.invisible:
        result.problems.append(f"{verdict.invisible} changes were never queued")
    if result.leaks:
        result.problems.append(f"leaks: {', '.join(result.leaks[:5])}")
    if stage.deaf:
        result.problems.append("no command was overheard: leaks were not looked for")
    if not stage.injected:
        result.problems.append("no fault was injected")
    if not row.by_chance:
        result.problems += stage.missed()
    result.problems += stage.failures
