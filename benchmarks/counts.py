"""What servers and processes have done so far; two readings make a measurement."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import astuple, dataclass

import psutil
from redis import Redis

_PROBES = frozenset({"info", "config|get", "ping", "client|setname", "client|setinfo", "hello", "command"})
"""Commands of the measurement itself, and of connecting."""
_SCRIPT_CALLS = ("eval", "evalsha")


@dataclass(frozen=True)
class Counts:
    """What was counted.

    Attributes:
        broker_commands: commands of the broker, those inside scripts too.
        ledger_commands: commands of the ledger, those inside scripts too.
        script_calls: scripts of the ledger that were called.
        messages: messages put into queues, and task events.
        message_bytes: what the broker has received, in bytes.
        requests: requests to the portal.
    """

    broker_commands: int = 0
    ledger_commands: int = 0
    script_calls: int = 0
    messages: int = 0
    message_bytes: int = 0
    requests: int = 0

    def __sub__(self, before: Counts) -> Counts:
        return Counts(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))


def commands(redis: Redis) -> dict[str, int]:
    """Return command -> how often the server has executed it, as ``INFO commandstats`` says."""
    rows = redis.info("commandstats")
    calls = {str(name).removeprefix("cmdstat_"): int(row["calls"]) for name, row in rows.items()}
    return {name: count for name, count in calls.items() if name not in _PROBES}


def of_broker(redis: Redis) -> Counts:
    """Return what a Redis broker has done."""
    done = commands(redis)
    return Counts(
        broker_commands=sum(done.values()),
        messages=done.get("lpush", 0) + done.get("publish", 0),
        message_bytes=int(redis.info("stats")["total_net_input_bytes"]),
    )


def of_ledger(redis: Redis) -> tuple[int, int]:
    """Return how many commands the ledger's server has executed, and how many scripts were called."""
    done = commands(redis)
    return sum(done.values()), sum(done.get(name, 0) for name in _SCRIPT_CALLS)


def cpu_seconds(process_ids: Iterable[int]) -> float:
    """Return the user and system time of processes and of all their living children."""
    spent = 0.0
    for process_id in process_ids:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process_id)
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = process.cpu_times()
                    spent += times.user + times.system
    return spent
