"""Runs inside a container that reaches portal, ledger and database: ``python - COMMAND [ARGUMENT] < probe.py``.

Prints one JSON value.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

from sqlalchemy import create_engine, text

from b24offline import keys
from b24offline.config import Config
from b24offline.emulator import Control
from b24offline.runtime import Runtime
from demo.comparison import compare

PORTAL = "demo"


def bound(control: Control, _runtime: Runtime) -> Any:
    return control.state()["bindings"]


def traffic(control: Control, _runtime: Runtime, rate: str = "10", seconds: str = "10") -> Any:
    control.start_traffic(rate=float(rate), seconds=float(seconds))
    return True


def backlog(control: Control, _runtime: Runtime, count: str) -> Any:
    return control.backlog(int(count))


def update(control: Control, _runtime: Runtime, entity: str, count: str) -> Any:
    return control.change(entity, "update", count=int(count))


def lock_mirror(_control: Control, runtime: Runtime, seconds: str) -> Any:
    with create_engine(runtime.config.database_url).begin() as connection:
        connection.execute(text("LOCK TABLE objects IN EXCLUSIVE MODE"))
        time.sleep(float(seconds))
    return True


def lock_waiters(_control: Control, runtime: Runtime) -> Any:
    with create_engine(runtime.config.database_url).connect() as connection:
        return connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one()


def progress(control: Control, runtime: Runtime) -> Any:
    state, stream, ledger = control.state(), control.traffic(), runtime.services(PORTAL).ledger
    return {
        "running": stream["running"],
        "changes": stream["count"],
        "waiting": state["free"] + state["reserved"] + state["nacked"] + len(ledger.open_batches()),
        "counters": ledger.counters(),
        "requests": state["requests"],
    }


def difference(control: Control, runtime: Runtime) -> Any:
    return dataclasses.asdict(compare(control.objects(since_changes=True), runtime.mirror.rows(PORTAL)))


def lanes_full_for(_control: Control, runtime: Runtime, seconds: str) -> Any:
    return _move_back(runtime, keys.full(runtime.services(PORTAL).ledger.stem), "", seconds)


def silent_for(_control: Control, runtime: Runtime, seconds: str) -> Any:
    return _move_back(runtime, keys.calls(runtime.services(PORTAL).ledger.stem), "silent:", seconds)


def _move_back(runtime: Runtime, key: str, prefix: str, seconds: str) -> list[str]:
    """Let something in the ledger have begun longer ago, and return its fields."""
    fields = [field for field in runtime.redis.hkeys(key) if field.startswith(prefix)]
    for field in fields:
        runtime.redis.hincrby(key, field, -1000 * int(seconds))
    return fields


COMMANDS = {
    "lanes-full-for": lanes_full_for,
    "silent-for": silent_for,
    "bound": bound,
    "traffic": traffic,
    "backlog": backlog,
    "update": update,
    "lock-mirror": lock_mirror,
    "lock-waiters": lock_waiters,
    "progress": progress,
    "difference": difference,
}

if __name__ == "__main__":
    portal = Control("http://127.0.0.1:8000/control/")
    print(json.dumps(COMMANDS[sys.argv[1]](portal, Runtime(Config.load()), *sys.argv[2:])))
