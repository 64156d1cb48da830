"""``python -m benchmarks.backlog``: how long a backlog takes under a portal's real limits, beside the plain loop.

The portal drains 2 requests a second and lets 50 through at once. The shipped mirror reads and writes every object. The
loop is measured once the 50 are used up, over few events, and its time for the whole backlog is calculated from that.
What is printed is JSON. ``operating`` is the execution time that the emulator counts: its own, not a portal's.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import click

from benchmarks.brokers import Brokers
from benchmarks.contestants.in_bulk import MirrorOnSqlite
from benchmarks.contestants.loop import Loop
from tests.support.waiting import wait_until

HOURS = 7200.0


class PacedMirror(MirrorOnSqlite):
    """With the pace and the sizes of batches that are set where nothing is set."""

    def settings(self, started: ExitStack) -> Mapping[str, str]:
        pace = {"B24_REQUESTS_PER_SECOND": "2", "B24_BURST": "50"}
        return {**super().settings(started), **pace, "B24_POLL_INTERVAL_MAX_SECONDS": "30"}

    def limit(self) -> None:
        """Let the portal refuse what is above its limit, beginning with an empty bucket."""
        self._control.limits(off=False, reset=True)

    def operating_seconds(self) -> float:
        """Return the execution time of all methods."""
        return float(sum(self._control.state()["operating"].values()))

    def refused(self) -> int:
        """Return how many requests the portal has refused for its limit."""
        return int(self._control.state()["bucket"]["refused"])


class PacedLoop(Loop):
    """It waits half a second when the portal refuses."""

    def limit(self) -> None:
        """Let the portal refuse what is above its limit."""
        self._control.limits(off=False, reset=True)

    @property
    def handled(self) -> int:
        """How many events were handled."""
        return self.done_file.stat().st_size


def mirrored(brokers: Brokers, folder: Path, count: int) -> dict[str, float]:
    """Measure the mirror."""
    with brokers.broker_for("mirror") as broker, PacedMirror(folder, broker) as of:
        of.pause()
        of.feed(count)
        of.limit()
        before, operating = of.counts(), of.operating_seconds()
        of.wake()
        began = time.monotonic()
        of.resume()
        wait_until(lambda: of.finished(count), f"{count} events are mirrored and acknowledged", HOURS)
        seconds = time.monotonic() - began
        return {
            "events": count,
            "seconds": round(seconds, 1),
            "events_per_second": round(count / seconds, 1),
            "requests_per_event": round((of.counts() - before).requests / count, 4),
            "refused": of.refused(),
            "operating_ms_per_event": round(1000 * (of.operating_seconds() - operating) / count, 3),
        }


def looped(brokers: Brokers, folder: Path, count: int, skipped: int = 100) -> dict[str, float]:
    """Measure the loop over so many events, after those for which the first requests lasted."""
    with brokers.broker_for("loop") as broker, PacedLoop(folder, broker) as of:
        of.pause()
        of.feed(count + skipped)
        of.limit()
        of.resume()
        wait_until(lambda: of.handled >= skipped, "the first requests are used up", HOURS)
        first, began = of.handled, time.monotonic()
        wait_until(lambda: of.handled >= count + skipped, "all are handled", HOURS)
        seconds = time.monotonic() - began
        return {"events": of.handled - first, "events_per_second": round((of.handled - first) / seconds, 3)}


@click.command(context_settings={"show_default": True})
@click.option("--waiting", "count", default=10_000, help="Events that wait for the mirror.", type=click.IntRange(min=1))
@click.option("--looped", "by_loop", default=500, help="Events by which the loop is measured.")
def main(count: int, by_loop: int) -> None:
    """Measure both, one after the other."""
    with tempfile.TemporaryDirectory(prefix="b24offline-backlog-") as name, Brokers(Path(name)) as brokers:
        mirror = mirrored(brokers, Path(name) / "mirror", count)
        loop = looped(brokers, Path(name) / "loop", by_loop)
    seconds = count / loop["events_per_second"]
    found = {
        "mirror": mirror,
        "loop": loop,
        "loop_seconds_by_calculation": round(seconds),
        "times_faster": round(seconds / mirror["seconds"]),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
