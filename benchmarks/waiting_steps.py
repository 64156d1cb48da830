"""``python -m benchmarks.waiting_steps``: steps that wait 50 ms for another system, by pool and concurrency.

The ideal is what so many waits side by side would reach if nothing but waiting took time. What is printed is JSON.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median

import click

from benchmarks.brokers import Brokers
from benchmarks.contestants.ours import Ours
from benchmarks.measure import Standing
from benchmarks.pipelines import AT_A_TIME, WAIT_SECONDS

WARM_UP_EVENTS = 100


class _Waiting(Ours):
    name = "waiting"
    title = "one step that waits 50 ms"
    pipeline = "waiting"


class _WaitingInBulk(_Waiting):
    pipeline = "waiting-bulk"


Variant = tuple[type[Ours], str, int, int]
"""Pipeline, pool, its concurrency, and how many events one of its processes or threads waits for at a time."""
VARIANTS: tuple[Variant, ...] = (
    (_Waiting, "prefork", 4, 1),
    (_Waiting, "prefork", 8, 1),
    (_Waiting, "prefork", 16, 1),
    (_Waiting, "threads", 4, 1),
    (_Waiting, "threads", 8, 1),
    (_Waiting, "threads", 16, 1),
    (_WaitingInBulk, "prefork", 2, AT_A_TIME),
    (_WaitingInBulk, "prefork", 4, AT_A_TIME),
)


def measured(brokers: Brokers, folder: Path, variant: Variant, seconds: float, rounds: int) -> dict[str, object]:
    """Measure one variant, alone, with as many events as the ideal handles in so many seconds."""
    kind, pool, concurrency, each = variant
    kind.pool, kind.concurrency = pool, concurrency
    ideal = concurrency * each / WAIT_SECONDS
    with brokers.broker_for("waiting") as broker, kind(folder, broker) as of:
        of.pause()
        standing = Standing(of)
        standing.turn(WARM_UP_EVENTS)
        turns = [standing.turn(round(ideal * seconds)) for _ in range(rounds)]
    rate = median(turn.rate for turn in turns)
    return {
        "pipeline": kind.pipeline,
        "pool": pool,
        "concurrency": concurrency,
        "ideal": round(ideal),
        "events_per_second": round(rate, 1),
        "share_of_ideal": round(rate / ideal, 2),
        "cpu_ms": round(median(turn.cpu_ms for turn in turns), 2),
    }


@click.command(context_settings={"show_default": True})
@click.option("--seconds", default=10.0, help="How long the ideal would take.")
@click.option("--rounds", default=3, type=click.IntRange(min=1))
def main(seconds: float, rounds: int) -> None:
    """Measure events a second of steps that wait."""
    with tempfile.TemporaryDirectory(prefix="b24offline-waiting-") as name, Brokers(Path(name)) as brokers:
        for number, variant in enumerate(VARIANTS):
            found = measured(brokers, Path(name) / str(number), variant, seconds, rounds)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
