"""``python -m benchmarks.more_workers``: events a second with one, two and four workers of one process each.

Fused runs of two steps that do nothing, with what `benchmarks.contestants.ours` measures. More workers than the machine
has cores share them, with the ledger and the emulated portal. What is printed is JSON.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import ClassVar

import click

from b24offline import supervisor
from benchmarks.brokers import Brokers
from benchmarks.contestants.ours import Ours
from benchmarks.measure import Standing

WARM_UP_EVENTS = 200


class Workers(Ours):
    """So many workers of one process."""

    name = "workers"
    title = "fused, two steps"
    pipeline = "fused"
    concurrency = 1
    workers: ClassVar[int] = 1

    def start(self, started: ExitStack) -> None:
        super().start(started)
        self._more = [
            supervisor.worker(f"{self.name}{number}", environ=self.environ, folder=self.folder, concurrency=1)
            for number in range(1, self.workers)
        ]
        for process in self._more:
            started.callback(process.kill)
            process.start()

    @property
    def process_ids(self) -> list[int]:
        return [*super().process_ids, *(process.pid or 0 for process in self._more)]


@click.command(context_settings={"show_default": True})
@click.option("--events", default=2000, help="Events of a round.", type=click.IntRange(min=1))
@click.option("--rounds", default=3, type=click.IntRange(min=1))
def main(events: int, rounds: int) -> None:
    """Measure one after the other."""
    with tempfile.TemporaryDirectory(prefix="b24offline-workers-") as name, Brokers(Path(name)) as brokers:
        for number in (1, 2, 4):
            kind = type("Workers", (Workers,), {"workers": number})
            with brokers.broker_for("workers") as broker, kind(Path(name) / str(number), broker) as of:
                of.pause()
                standing = Standing(of)
                standing.turn(WARM_UP_EVENTS * number)
                turns = [standing.turn(events) for _ in range(rounds)]
            rate, cpu_ms = median(turn.rate for turn in turns), median(turn.cpu_ms for turn in turns)
            print(json.dumps({"workers": number, "events_per_second": round(rate), "cpu_ms": round(cpu_ms, 2)}))


if __name__ == "__main__":
    main()
