"""``python -m benchmarks.start``: how soon a worker is ready, and how soon ``up`` has subscribed the first event.

A worker of its own is started, too, and waited for until it says that it is ready. What is printed is JSON, in seconds:
the median, the shortest and the longest of all rounds. ``up`` starts without Flower.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click

from b24offline import supervisor
from b24offline.emulator import EmulatorProcess
from b24offline.supervisor import EmbeddedValkey
from tests.support.up_process import portal_variables
from tests.support.waiting import wait_until

LOOK_SECONDS = 0.01


def until(condition: Callable[[], object], what: str, began: float) -> float:
    """Wait for something, and return how long after the beginning it was."""
    wait_until(condition, what, pause_seconds=LOOK_SECONDS)
    return time.monotonic() - began


def variables_in(folder: Path) -> dict[str, str]:
    """Return the settings that are not those of nothing set."""
    return {"B24_DATA_DIR": str(folder / "data"), "B24_LOOPBACK_HTTP": "true", "B24_FLOWER_PORT": "0"}


def worker_seconds(folder: Path) -> float:
    """Start one worker, and return after how many seconds it was ready."""
    folder.mkdir()
    with EmbeddedValkey(folder / "valkey") as valkey:
        environ = supervisor.child_environ({**variables_in(folder), "B24_REDIS_URL": valkey.url})
        process = supervisor.worker("one", environ=environ, folder=folder, concurrency=2)
        began = time.monotonic()
        process.start()
        try:
            return until(lambda: "ready." in process.log_tail(), "the worker is ready", began)
        finally:
            process.kill()


def up_seconds(folder: Path) -> float:
    """Start everything, and return after how many seconds the portal had its first subscription."""
    folder.mkdir()
    with EmulatorProcess() as emulator, (folder / "up.log").open("wb") as log:
        variables = {**variables_in(folder), **portal_variables(emulator, "acme")}
        control = emulator.control()
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "b24offline", "up"],
            cwd=folder,
            env=supervisor.child_environ(variables),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            return until(lambda: control.state()["bindings"], "an event is subscribed", began)
        finally:
            process.terminate()
            process.wait()


@click.command(context_settings={"show_default": True})
@click.option("--rounds", default=5, type=click.IntRange(min=1))
def main(rounds: int) -> None:
    """Measure how soon the processes work."""
    found: dict[str, list[float]] = {"worker ready": [], "up to the first subscription": []}
    with tempfile.TemporaryDirectory(prefix="b24offline-start-") as name:
        for number in range(rounds):
            found["worker ready"].append(worker_seconds(Path(name) / f"worker{number}"))
            found["up to the first subscription"].append(up_seconds(Path(name) / f"up{number}"))
    rows = {
        what: {"median": round(median(all_), 2), "shortest": round(min(all_), 2), "longest": round(max(all_), 2)}
        for what, all_ in found.items()
    }
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
