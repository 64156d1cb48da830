"""Worker and beat processes, started and stopped from Python: for the demo and the tests.

Each runs in its own process group, so that a kill takes its children too, as the death of a container does. It dies
with the process that started it: none outlives a killed demo or test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from b24offline.contract import QUEUES
from b24offline.supervisor.die_with_parent import tethered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

STOP_SECONDS: Final = 20.0


class CeleryProcess:
    """One worker or beat. ``environ`` is the whole environment of the process; its output goes to ``log_path``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        log_path: Path,
        application: str = "b24offline",
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = [sys.executable, "-m", "celery", "-A", application, *command]
        self._environ = dict(environ)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id, also the id of its group; None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start the process; do nothing while it runs."""
        if not self.alive:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("ab") as log:
                self._process = subprocess.Popen(
                    tethered(self._command),
                    env=self._environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        return self

    def kill(self) -> None:
        """Send SIGKILL to the whole group."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Send SIGTERM, then SIGKILL to what is left of the group."""
        if self._process is None:
            return
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
        self.kill()

    def log_tail(self, characters: int = 4000) -> str:
        """Return the end of its output."""
        return self.log_path.read_text("utf-8", "replace")[-characters:] if self.log_path.exists() else ""


def worker(
    name: str,
    *,
    environ: Mapping[str, str],
    folder: Path,
    concurrency: int = 4,
    queues: Sequence[str] | None = QUEUES,
    events: bool = False,
    arguments: Sequence[str] = (),
) -> CeleryProcess:
    """Return a prefork worker. ``queues`` None: what the settings say. ``events`` sends task events, for Flower."""
    command = [
        *("worker", "-n", f"{name}@%h", "-c", str(concurrency)),
        *("--without-mingle", "--without-gossip"),
        *(["-Q", ",".join(queues)] if queues else []),
        *(["-E"] if events else []),
        *arguments,
    ]
    return CeleryProcess(name, command, environ=environ, log_path=folder / f"{name}.log")


def beat(*, environ: Mapping[str, str], folder: Path, name: str = "beat") -> CeleryProcess:
    """Return a beat with a schedule file and a pid file of its own."""
    command = ["beat", "-s", str(folder / f"{name}-schedule"), "--pidfile", str(folder / f"{name}.pid")]
    return CeleryProcess(name, command, environ=environ, log_path=folder / f"{name}.log")


def child_environ(values: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these settings instead of its own ones."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("B24_", "CELERY_"))}
    return {**kept, **values}


def _signal_group(pid: int, number: int) -> bool:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    return True
