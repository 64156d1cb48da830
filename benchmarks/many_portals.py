"""``python -m benchmarks.many_portals``: how late polls of many portals are, and what an idle poll costs.

Everything runs as in production, but for the portals, which are one emulator: beat, one worker with so many processes,
one Valkey. What is printed is JSON: lateness of polls in seconds (the time between two polls of a portal beyond its
interval), CPU of worker, beat and Valkey for each poll, bytes of the ledger for each portal.
"""

from __future__ import annotations

import json
import random
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import click
from redis import Redis

from b24offline import keys, supervisor
from b24offline.config import Config
from b24offline.emulator import EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import CeleryProcess, EmbeddedValkey
from benchmarks.counts import cpu_seconds

LOOK_SECONDS = 5.0
FIRST_POLLS_SECONDS = 1800.0
ENTITIES = ("crm_lead", "crm_deal", "crm_contact", "crm_company")


@dataclass
class Polls:
    """When the portals were polled, as their ledgers say, and how many seconds later than they were due."""

    interval_seconds: float
    seen: dict[str, int] = field(default_factory=dict)
    late_seconds: list[float] = field(default_factory=list)

    def note(self, portal: str, polled_ms: int) -> None:
        """Note the last poll of a portal."""
        before = self.seen.get(portal)
        if before is not None and before != polled_ms:
            self.late_seconds.append(max(0.0, (polled_ms - before) / 1000 - self.interval_seconds))
        self.seen[portal] = polled_ms

    def late(self, share: float) -> float:
        """Return the lateness that so large a share of the polls did not exceed."""
        ordered = sorted(self.late_seconds) or [0.0]
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


@dataclass
class Crowd:
    """A deployment with many portals."""

    portals: list[str]
    emulator: EmulatorProcess
    redis: Redis
    runtime: Runtime
    worker: CeleryProcess
    beat: CeleryProcess
    valkey_pid: int

    def look(self, polls: Polls) -> None:
        """Note the last poll of each portal."""
        with self.redis.pipeline(transaction=False) as pipe:
            for portal in self.portals:
                pipe.hget(keys.lanes(keys.stem(self.runtime.config.redis_key_prefix, portal)), "default")
            for portal, lane in zip(self.portals, pipe.execute(), strict=True):
                if lane:
                    polls.note(portal, int(str(lane).split()[2]))

    def cpu(self) -> float:
        """Return the CPU seconds of all that belongs to the polls."""
        return cpu_seconds([self.worker.pid or 0, self.beat.pid or 0, self.valkey_pid])

    def used_bytes(self) -> int:
        """Return what the ledger, which is the broker too, holds."""
        return int(self.redis.info("memory")["used_memory"])


def started(exit_stack: ExitStack, folder: Path, count: int, interval: float, processes: int) -> Crowd:
    """Start everything, with so many portals in the store."""
    valkey = exit_stack.enter_context(EmbeddedValkey(folder / "valkey"))
    names = [f"p{number:05}" for number in range(count)]
    emulator = exit_stack.enter_context(EmulatorProcess(portals=names, objects=8))
    variables = {
        "B24_REDIS_URL": valkey.url,
        "B24_DATA_DIR": str(folder / "data"),
        "B24_LOOPBACK_HTTP": "true",
        "B24_PIPELINES": "b24offline.pipelines",
        "B24_POLL_INTERVAL_MIN_SECONDS": str(interval),
        "B24_POLL_INTERVAL_MAX_SECONDS": str(interval),
        "B24_LOG_LEVEL": "WARNING",
    }
    runtime = Runtime(Config.load(variables))
    exit_stack.callback(runtime.close)
    for name in names:
        about = emulator.hello["portals"][name]
        runtime.store.portals.seed(
            name,
            client_endpoint=about["client_endpoint"],
            auth_url=emulator.auth_url,
            client_id=emulator.client_id,
            client_secret=emulator.client_secret,
            connector="b24offline",
            refresh_token=about["refresh_token"],
        )
    environ = supervisor.child_environ(variables)
    worker = supervisor.worker("many", environ=environ, folder=folder, concurrency=processes)
    beat = supervisor.beat(environ=environ, folder=folder)
    for process in (worker, beat):
        exit_stack.callback(process.kill)
        process.start()
    redis = exit_stack.enter_context(Redis.from_url(valkey.url, decode_responses=True))
    return Crowd(names, emulator, redis, runtime, worker, beat, valkey.pid)


def change_on(crowd: Crowd, per_second: float, ended: threading.Event, made: list[int]) -> None:
    """Change objects of portals at random, so many a second. ``made`` gets the second of each change."""
    chance = random.Random(1)
    due = time.monotonic()
    while not ended.is_set():
        # Closed each time: the emulator takes 100 connections.
        with closing(crowd.emulator.control(chance.choice(crowd.portals))) as control:
            control.change(chance.choice(ENTITIES), "update")
        made.append(int(time.monotonic()))
        due += 1 / per_second
        ended.wait(max(0.0, due - time.monotonic()))


def measured(crowd: Crowd, interval: float, seconds: float, per_minute: float) -> dict[str, float]:
    """Measure for so many seconds, once each portal was polled."""
    polls, empty_bytes = Polls(interval), crowd.used_bytes()
    give_up = time.monotonic() + FIRST_POLLS_SECONDS
    began = time.monotonic()
    while len(polls.seen) < len(crowd.portals) and time.monotonic() < give_up:
        crowd.look(polls)
        time.sleep(LOOK_SECONDS)
    first_seconds = time.monotonic() - began
    ended, made = threading.Event(), list[int]()
    if per_minute:
        rate = per_minute / 60 * len(crowd.portals)
        threading.Thread(target=change_on, args=(crowd, rate, ended, made), daemon=True).start()
    time.sleep(interval)  # until each was polled again: the first polls of all came together
    polls = Polls(interval)
    crowd.look(polls)
    changes = len(made)
    events, cpu, began = events_acknowledged(crowd), crowd.cpu(), time.monotonic()
    while time.monotonic() < began + seconds:
        time.sleep(LOOK_SECONDS)
        crowd.look(polls)
    passed, cpu = time.monotonic() - began, crowd.cpu() - cpu
    events, changes = events_acknowledged(crowd) - events, len(made) - changes
    ended.set()
    count = len(polls.late_seconds)
    return {
        "portals": len(crowd.portals),
        "interval_seconds": interval,
        "measured_seconds": round(passed, 1),
        "first_polls_of_all_seconds": round(first_seconds, 1),
        "polls": count,
        "polls_per_second": round(count / passed, 1),
        "changes": changes,
        "events": events,
        "late_p50_seconds": polls.late(0.5),
        "late_p99_seconds": polls.late(0.99),
        "late_max_seconds": polls.late(1.0),
        "cpu_ms_per_poll": round(1000 * cpu / max(1, count), 2),
        "cores": round(cpu / passed, 2),
        "ledger_bytes_per_portal": round((crowd.used_bytes() - empty_bytes) / len(crowd.portals)),
    }


def events_acknowledged(crowd: Crowd) -> int:
    """Return how many events all portals have acknowledged."""
    with crowd.redis.pipeline(transaction=False) as pipe:
        for portal in crowd.portals:
            pipe.hget(keys.stats(keys.stem(crowd.runtime.config.redis_key_prefix, portal)), "events_acknowledged")
        return sum(int(number or 0) for number in pipe.execute())


@click.command(context_settings={"show_default": True})
@click.option("--portals", default=1000, help="How many portals.", type=click.IntRange(min=1))
@click.option("--interval", default=60.0, help="Seconds between polls of a portal.", type=click.FloatRange(min=1))
@click.option("--changes", default=2.0, help="Changes of a portal in a minute; 0: all are idle.")
@click.option("--seconds", default=180.0, help="How long to measure.", type=click.FloatRange(min=10))
@click.option("--processes", default=4, help="Processes of the worker.", type=click.IntRange(min=1))
def main(portals: int, interval: float, changes: float, seconds: float, processes: int) -> None:
    """Serve many emulated portals, and print what their polls cost."""
    with tempfile.TemporaryDirectory(prefix="b24offline-many-") as folder, ExitStack() as exit_stack:
        crowd = started(exit_stack, Path(folder), portals, interval, processes)
        print(json.dumps(measured(crowd, interval, seconds, changes), indent=2))


if __name__ == "__main__":
    main()
