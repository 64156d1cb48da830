"""`b24offline push` as a process beside a deployment."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import requests

from b24offline.supervisor import child_environ
from tests.support.ports import free_port
from tests.support.waiting import wait_until


class PushProcess:
    """The receiver on a free port."""

    module = "b24offline"
    """What Python runs; it takes the commands of the command line."""

    def __init__(self, folder: Path) -> None:
        self.log_path = folder / "push.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/b24"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The settings by which a deployment knows of it."""
        return {"B24_PUSH_URL": self.url, "B24_PUSH_LISTEN": f"127.0.0.1:{self.port}"}

    def start(self, variables: Mapping[str, str], **more: str) -> Self:
        """Start it and wait until it answers."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, "push"],
                env=child_environ({**variables, **self.variables, **more}),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.healthy, "push answers")
        return self

    def healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/healthz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace") if self.log_path.exists() else ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ended(self) -> bool:
        """Return whether it has died."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """Kill it; do nothing where it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """End it as a supervisor does; return its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)
