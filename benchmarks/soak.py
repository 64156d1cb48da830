"""``python -m benchmarks.soak``: half an hour of traffic, faults and restarts; what grows meanwhile, and what is lost.

One deployment as in the fault rows, with two workers. The first runs from beginning to end, so that its memory shows
what a process keeps; the second and beat are stopped or killed in turn, and the portal answers badly now and then.
Afterwards everything must be settled and the mirror must be the portal. A plot is written beside the figures.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import click
from redis.exceptions import RedisError

from demo.comparison import compare
from tests.faults.gauges import resident
from tests.faults.journal import FUSED
from tests.faults.row import Row, run
from tests.faults.rows_mix import METHODS, TROUBLE
from tests.faults.stage import CONNECTOR, Plan, Stage
from tests.support.stack import PORTAL
from tests.support.waiting import wait_until

LOOK_SECONDS: Final = 5.0
FAULT_SECONDS: Final = 15.0
"""Between two faults."""
MB: Final = 1 << 20
DRAIN_SECONDS: Final = 600.0
MEASURED: Final = ("worker_mb", "ledger_mb", "keys")
FLAT: Final = 1.1
"""How much higher the last third may lie than the middle one, by their medians. In the first, processes warm up."""


@dataclass(frozen=True)
class Sample:
    """One moment: seconds since the start, megabytes, and counts.

    Snapshots of objects that were read are counted apart: they last 15 minutes, so there are as many as objects changed
    in that time.
    """

    seconds: float
    worker_mb: float
    ledger_mb: float
    keys: int
    snapshots: int
    waiting: int
    acknowledged: int


def sample(stage: Stage, began: float) -> Sample:
    """Take one."""
    names = [str(name) for name in stage.redis.scan_iter(count=1000)]
    snapshots = sum(":snapshot:" in name for name in names)
    return Sample(
        round(time.monotonic() - began, 1),
        round(resident(stage.workers[0].pid or 0) / MB, 1),
        round(int(stage.redis.info("memory")["used_memory"]) / MB, 2),
        len(names) - snapshots,
        snapshots,
        int(stage.control.state()["records"]),
        stage.counters.get("events_acknowledged", 0),
    )


def growth(values: Sequence[float]) -> float:
    """Return the median of the last third of the values, divided by that of the middle one: 1.0 is flat. Pure."""
    third = len(values) // 3
    return median(values[-third:]) / median(values[third : 2 * third])


def one_fault(stage: Stage) -> None:
    """Stop or kill the second worker or beat, let the portal answer badly, or let a handler fail."""
    rng, control, mortal, beat = stage.rng, stage.control, stage.workers[1], stage.beats[0]
    acts: dict[str, Callable[[], object]] = {
        "worker stopped": mortal.stop,
        "worker killed": mortal.kill,
        "beat killed": beat.kill,
        "bad answer": lambda: control.fault(
            rng.choice(METHODS), rng.choice(TROUBLE), stage=rng.choice(["before", "after"]), times=1
        ),
        "executed twice": lambda: control.fault(rng.choice(METHODS), "twice", times=1),
        "batch stolen": lambda: control.steal(connector=CONNECTOR, count=3),
        "tokens expired": control.expire_tokens,
        "handlers fail": lambda: stage.journal.tell(rng.choice(["fail", "slow"]), 0.5, times=3),
    }
    what = rng.choice(list(acts))
    acts[what]()
    stage.noted(what)


def soaked(samples: list[Sample], minutes: float, rate: float, stage: Stage) -> None:
    """Change objects for so many minutes, and sample."""
    stage.settle_some()
    stage.control.start_traffic(rate=rate, seed=stage.seed)
    began = faulted = time.monotonic()
    while time.monotonic() < began + minutes * 60:
        time.sleep(LOOK_SECONDS)
        with suppress(RedisError):
            samples.append(sample(stage, began))
        if time.monotonic() > faulted + FAULT_SECONDS:
            faulted = time.monotonic()
            one_fault(stage)
        else:
            stage.revive()
    stage.control.stop_traffic()
    stage.control.disarm()
    stage.journal.tell_nothing()
    stage.expect(stage.workers[0].alive, "the worker that nobody ends has ended")
    stage.revive()
    wait_until(stage.empty, "everything is settled", DRAIN_SECONDS)
    found = compare(stage.control.objects(since_changes=True), stage.runtime.mirror.rows(PORTAL))
    stage.tell(f"mirror and portal compared: {found.compared} objects")
    wrong = [*found.missing, *found.stale, *found.extra]
    stage.expect(not wrong, f"the mirror is not the portal: {len(wrong)} objects, {found}"[:500])


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Draw memory, keys and records over time."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the development extra, and slow to import

    minutes = [one.seconds / 60 for one in samples]
    figure = Figure(figsize=(9, 8.5), layout="constrained")
    curves = (
        ("resident memory of the worker that is never ended, MB", [one.worker_mb for one in samples]),
        ("memory of ledger and broker, MB", [one.ledger_mb for one in samples]),
        ("keys in ledger and broker, but snapshots of objects", [one.keys for one in samples]),
        ("snapshots of objects", [one.snapshots for one in samples]),
        ("records in the portal's queue", [one.waiting for one in samples]),
    )
    for axes, (title, values) in zip(figure.subplots(len(curves), sharex=True), curves, strict=True):
        axes.plot(minutes, values, color="#2a6f97", linewidth=1)
        axes.set_ylim(0, 1.1 * max(*values, 1))
        axes.set_title(title, fontsize=9, loc="left")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    axes.set_xlabel("minutes")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


@click.command(context_settings={"show_default": True})
@click.option("--minutes", default=30.0, help="How long.", type=click.FloatRange(min=1))
@click.option("--rate", default=5.0, help="Changes a second.", type=click.FloatRange(min=0.1))
@click.option("--seed", default=1)
@click.option("--plot", "path", default="docs/benchmarks/soak.png", type=click.Path(path_type=Path, dir_okay=False))
def main(minutes: float, rate: float, seed: int, path: Path) -> None:
    """Let a deployment work, and print what grows. Exit with 1 when something was lost or is not flat."""
    samples: list[Sample] = []
    row = Row(
        0,
        "soak",
        partial(soaked, samples, minutes, rate),
        plan=Plan(workers=2, objects=300, variables={FUSED: "0.5"}),
        repeats=None,
        by_chance=True,
    )
    result = run(row, seed=seed, keep_logs=Path(tempfile.gettempdir()) / "b24offline-soak-logs")
    if not samples:
        sys.exit(f"Nothing was measured: {result.problems}")
    ratios = {name: round(growth([getattr(one, name) for one in samples]), 3) for name in MEASURED}
    plot(samples, path)
    faults = {kind: result.injected.count(kind) for kind in sorted(set(result.injected))}
    found = {
        "minutes": round(samples[-1].seconds / 60, 1),
        "seed": seed,
        "changes": result.changes,
        "acknowledged": samples[-1].acknowledged,
        "faults": faults,
        "measured": result.measured,
        "growth of the last third": ratios,
        "first": asdict(samples[0]),
        "last": asdict(samples[-1]),
        "problems": [*result.problems, *(f"{name} is not flat: {by}" for name, by in ratios.items() if by > FLAT)],
        "logs of what failed": result.logs,
    }
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["problems"] else 0)


if __name__ == "__main__":
    main()
