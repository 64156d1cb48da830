"""The embedded Valkey of a data directory: where it keeps its data, on which port, and how to find it from outside."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis import Redis
from redis.exceptions import RedisError

from b24offline.supervisor.valkey import EmbeddedValkey, free_port

if TYPE_CHECKING:
    from pathlib import Path

    from b24offline.config import Config

_FOLDER: Final = "valkey"
_PORT_FILE: Final = "port"


def needed(config: Config) -> bool:
    """Return whether the ledger lives in an embedded Valkey, because no address of another server is set."""
    return "redis_url" not in config.model_fields_set


def folder_of(config: Config) -> Path:
    """Where the embedded Valkey of this configuration keeps its data."""
    return config.data_dir.resolve() / _FOLDER


def kept_valkey(config: Config) -> EmbeddedValkey:
    """Return the server of this data directory, on the port it had before when that is free. Nothing is started."""
    folder = folder_of(config)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = _noted_port(folder)
    if port is None or not _is_free(port):
        port = free_port()
        (folder / _PORT_FILE).write_text(f"{port}\n", "ascii")
    return EmbeddedValkey(folder, keep=True, port=port)


def with_ledger_address(config: Config) -> Config:
    """Return the configuration with the address of the embedded Valkey, where there is one and no other is set."""
    port = _noted_port(folder_of(config)) if needed(config) else None
    return config if port is None else config.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})


def answers_as(port: int, pid: int) -> bool:
    """Return whether the server on this port is that process, and has read its data."""
    client = Redis(port=port, socket_timeout=1, socket_connect_timeout=1)
    try:
        return bool(client.ping()) and client.info("server").get("process_id") == pid
    except RedisError:
        return False
    finally:
        client.close()


def _noted_port(folder: Path) -> int | None:
    with suppress(OSError, ValueError):
        port = int((folder / _PORT_FILE).read_text("ascii"))
        if 1024 <= port <= 65_535:
            return port
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Connections of the server before may linger; the server itself takes the port all the same.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
