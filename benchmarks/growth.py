"""``python -m benchmarks.growth``: whether an event costs more while many wait, or many lie nacked on the portal.

One portal and the shape of `benchmarks.contestants.ours.FusedMode`, with batches that grow. What is printed is JSON:
CPU of the worker, commands and scripts of the ledger for each event of the first and of the last thousand, the bytes
that an open event takes in the ledger, and the most messages that waited in a queue.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from b24offline.contract import QUEUES
from benchmarks.brokers import Broker, Brokers
from benchmarks.contestants.ours import PORTAL, FusedMode
from benchmarks.counts import cpu_seconds
from benchmarks.measure import Standing

LOOK_SECONDS = 0.2
STEP = 1000
WARM_UP = 500


class Growing(FusedMode):
    """Batches grow to 500."""

    def settings(self, started: ExitStack) -> Mapping[str, str]:
        del started
        return {"B24_BATCH_SIZE": "50", "B24_BATCH_SIZE_MAX": "500"}

    def take_new(self, count: int) -> list[str]:
        """Add objects, of which no event tells, and return their ids."""
        return self._control.change("crm_deal", "add", count=count)

    def change(self, ids: list[str]) -> None:
        """Change objects."""
        self._control.change("crm_deal", "update", ids=ids)

    def nack(self, count: int) -> int:
        """Let so many records lie nacked on the portal."""
        self.feed(count)
        return self._control.marks(connector="b24offline", count=count)

    def open_events(self) -> int:
        """Return how many events are reserved and not yet acknowledged."""
        counters = self.runtime.services(PORTAL).ledger.counters()
        return counters.get("events_seen", 0) - counters.get("events_acknowledged", 0)

    def ledger_bytes(self) -> int:
        """Return what the ledger holds."""
        return int(self._redis.info("memory")["used_memory"])


@dataclass(frozen=True)
class Sample:
    """The state at one moment, counted since the start."""

    handled: int
    cpu_seconds: float
    commands: int
    scripts: int
    open_events: int
    ledger_bytes: int
    queued: int


def sample(of: Growing, broker: Broker) -> Sample:
    """Take one."""
    counts = of.counts()
    queued = max(int(broker.redis.llen(queue)) for queue in QUEUES) if broker.redis is not None else 0
    return Sample(
        of.done_file.stat().st_size,
        cpu_seconds(of.process_ids),
        counts.ledger_commands,
        counts.script_calls,
        of.open_events(),
        of.ledger_bytes(),
        queued,
    )


def work_off(of: Growing, broker: Broker, until: int) -> list[Sample]:
    """Let it work until so many events were handled, and sample it."""
    samples = [sample(of, broker)]
    of.wake()
    of.resume()
    while samples[-1].handled < until:
        time.sleep(LOOK_SECONDS)
        samples.append(sample(of, broker))
    of.pause()
    return samples


def cost(samples: list[Sample], first: int, last: int) -> dict[str, float]:
    """Return what an event cost between two numbers of handled events, as near as the samples are to them."""
    begin = next(one for one in samples if one.handled >= first)
    end = next(one for one in samples if one.handled >= last)
    events = max(1, end.handled - begin.handled)
    return {
        "events": events,
        "cpu_ms": round(1000 * (end.cpu_seconds - begin.cpu_seconds) / events, 2),
        "ledger_commands": round((end.commands - begin.commands) / events, 1),
        "scripts": round((end.scripts - begin.scripts) / events, 2),
    }


def waiting(of: Growing, broker: Broker, count: int) -> dict[str, object]:
    """Measure with so many events waiting."""
    handled, base = of.done_file.stat().st_size, of.ledger_bytes()
    of.feed(count)
    samples = work_off(of, broker, handled + count)
    fullest = max(samples, key=lambda one: one.open_events)
    return {
        "waiting": count,
        "first_thousands": cost(samples, handled + STEP, handled + 3 * STEP),
        "last_thousands": cost(samples, handled + count - 2 * STEP, handled + count),
        "most_open_events": fullest.open_events,
        "bytes_per_open_event": round((fullest.ledger_bytes - base) / max(1, fullest.open_events)),
        "most_queued_messages": max(one.queued for one in samples),
    }


def beside_nacked(of: Growing, broker: Broker, nacked: int, count: int) -> dict[str, object]:
    """Measure with so many records that lie nacked on the portal."""
    lie = of.nack(nacked)
    ids = of.take_new(count)  # afterwards: a nacked record swallows further changes of its object
    handled = of.done_file.stat().st_size
    of.change(ids)
    samples = work_off(of, broker, handled + count)
    return {"nacked": lie, "events_beside_them": cost(samples, handled, handled + count)}


@click.command(context_settings={"show_default": True})
@click.option("--waiting", "count", default=100_000, help="Events that wait.", type=click.IntRange(min=4 * STEP))
@click.option("--nacked", default=20_000, help="Records that lie nacked.", type=click.IntRange(min=1))
def main(count: int, nacked: int) -> None:
    """Measure the cost of an event while many wait."""
    with (
        tempfile.TemporaryDirectory(prefix="b24offline-growth-") as name,
        Brokers(Path(name)) as brokers,
        brokers.broker_for("growth") as broker,
        Growing(Path(name) / "growth", broker) as of,
    ):
        of.pause()
        before = Standing(of).turn(WARM_UP)
        found = {"few": asdict(before), **waiting(of, broker, count), **beside_nacked(of, broker, nacked, 2 * STEP)}
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
