"""A RabbitMQ node of the installed server on a free port; a node that runs already is left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import kombu

from tests.support.ports import free_port

_SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server",)
START_SECONDS = 120.0
START_TRIES = 3
"""Each on other ports: a port that was free may be taken before the node listens."""


def server_binary() -> str | None:
    """Return the server's start script, or None when RabbitMQ is not installed."""
    for path in _SERVERS:
        if Path(path).is_file():
            return path
    return shutil.which("rabbitmq-server")


class RabbitNode:
    """Run one node while the context lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._dist_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_run = False

    @property
    def url(self) -> str:
        """The address, as guest."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def __enter__(self) -> RabbitNode:
        if self._process is not None and self._process.poll() is None:
            return self
        for _ in range(START_TRIES):
            if self._start():
                self._has_run = True
                return self
            if not self._has_run:
                self.port, self._dist_port = free_port(), free_port()
        raise RuntimeError(f"RabbitMQ did not start: {(self._folder / 'out.log').read_text()[-2000:]}")

    def _start(self) -> bool:
        """Return whether the node answers; one that has ended or is too slow is killed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.default = 127.0.0.1:{self.port}\n")
        (self._folder / "env.conf").touch()
        with (self._folder / "out.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(server_binary())],
                cwd=self._folder,
                env=self._environ(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with kombu.Connection(self.url, connect_timeout=2) as connection:
                    connection.connect()
                return True
            except (OSError, kombu.exceptions.OperationalError):
                time.sleep(0.2)
        self.__exit__()
        return False

    def control(self, *words: str) -> None:
        """Give the node an order, in the words of rabbitmqctl."""
        command = Path(str(server_binary())).with_name("rabbitmqctl")
        subprocess.run([str(command), *words], env=self._environ(), check=True, capture_output=True, timeout=60)

    def have_memory(self, enough: bool) -> None:
        """Let the node have too little memory, so that it reads no more from who sends messages, or enough again."""
        self.control("set_vm_memory_high_watermark", *(("0.4",) if enough else ("absolute", "1MB")))

    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": f"b24offline-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "env.conf"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(self._folder / "erl_crash.dump"),
        }

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
