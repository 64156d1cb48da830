"""`b24offline up` as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from b24offline.emulator import EmulatorProcess
from b24offline.supervisor import child_environ
from tests.support.ports import free_port
from tests.support.waiting import GIVE_UP_SECONDS, wait_until

_STARTED = re.compile(r"process started \| program=(\w+) process_id=(\d+)")


def common_variables(folder: Path) -> dict[str, str]:
    """Return settings that name no portal and no Redis."""
    return {
        "B24_DATA_DIR": str(folder / "data"),
        "B24_LOOPBACK_HTTP": "true",
        "B24OFFLINE_TEST_TIME_SCALE": "0.05",
        "B24_CONCURRENCY": "2",
        "B24_FLOWER_PORT": "0",
        "B24_REQUESTS_PER_SECOND": "100",
        "B24_BURST": "200",
        "B24_POLL_INTERVAL_MAX_SECONDS": "1",
    }


def portal_variables(emulator: EmulatorProcess, name: str) -> dict[str, str]:
    """Return settings that configure the emulator's default portal."""
    return {
        "B24_PORTAL_URL": emulator.rest,
        "B24_PORTAL_NAME": name,
        "B24_CLIENT_ID": emulator.client_id,
        "B24_CLIENT_SECRET": emulator.client_secret,
        "B24_REFRESH_TOKEN": str(emulator.hello["refresh_token"]),
        "B24_AUTH_URL": emulator.auth_url,
    }


class Up:
    """Start the supervisor, and end it with everything it started."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self.variables = variables
        self.flower_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[int] = set()

    def with_flower(self) -> Up:
        """Run Flower too, on a free port."""
        self.flower_port = free_port()
        self.variables["B24_FLOWER_PORT"] = str(self.flower_port)
        return self

    def start(self, *, ready: bool = True) -> Up:
        """Start it. With ``ready`` wait for both workers."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        self._from = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "b24offline", "up"],
                env=child_environ(self.variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if ready:
            wait_until(lambda: len(re.findall(r"@\S+ ready", self.log())) >= 2, f"workers are ready: {self.log()}")
        return self

    @property
    def log_path(self) -> Path:
        """The file of its output, over all starts."""
        return self.folder / "up.log"

    def log(self) -> str:
        """Return what it has printed since the last start."""
        return self.log_path.read_bytes()[self._from :].decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None
        return self._process.pid

    def pids(self) -> dict[str, int]:
        """Return program -> process id, as of its last start."""
        found = {name: int(pid) for name, pid in _STARTED.findall(self.log())}
        self._seen |= set(found.values())
        return found

    def left(self) -> list[psutil.Process]:
        """Return the living processes of this data directory, the children of workers included."""
        members = self.folder / "data" / "up.members"
        left = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                fds = Path(f"/proc/{process.pid}/fd")
                if process.status() != psutil.STATUS_ZOMBIE and any(
                    os.path.realpath(fd) == str(members) for fd in fds.iterdir()
                ):
                    left.append(process)
        return left

    def interrupt(self, number: int = signal.SIGINT) -> float:
        """Send a signal and wait for the end. Return the seconds it took; fail unless the status is 0."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(number)
        status = self._process.wait(GIVE_UP_SECONDS)
        assert status == 0, self.log()[-3000:]
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill the supervisor alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End everything and show the log."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            self._process.kill()
            self._process.wait()
        for process in self.left():
            with suppress(psutil.Error):
                process.kill()
        print(f"--- up\n{self.log_path.read_text('utf-8', 'replace')[-8000:]}")
