"""Brokers that a fault row may kill: a Valkey or a RabbitMQ of our own, on a free port, that comes back."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Final

from b24offline.supervisor import EmbeddedValkey
from tests.support.rabbit import RabbitNode

DEATH_SECONDS: Final = 10.0


class ValkeyBroker:
    """An embedded Valkey without a file: a kill loses every message."""

    def __init__(self, server: EmbeddedValkey) -> None:
        self._server = server

    @property
    def url(self) -> str:
        """Its address."""
        return self._server.url

    @property
    def port(self) -> int:
        """Its port."""
        return self._server.port

    def kill(self) -> None:
        """Send SIGKILL; everything is lost."""
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()

    def start(self) -> None:
        """Start it again, empty."""
        self._server.start()

    def files(self) -> list[Path]:
        """Return nothing: its commands are read on the wire."""
        return []


class RabbitBroker:
    """A RabbitMQ node: durable queues survive a kill, with what was synced."""

    def __init__(self, node: RabbitNode, folder: Path) -> None:
        self._node = node
        self._folder = folder

    @property
    def url(self) -> str:
        """Its address."""
        return self._node.url

    def kill(self) -> None:
        """Send SIGKILL to the node and what it started."""
        self._node.__exit__()
        deadline = time.monotonic() + DEATH_SECONDS
        while _answers(self._node.port):
            if time.monotonic() > deadline:
                raise RuntimeError("the node was killed, and something answers at its port")
            time.sleep(0.01)

    def start(self) -> None:
        """Start it again on its files."""
        self._node.__enter__()

    def time_out_consumers(self, seconds: float) -> None:
        """Close each channel that opens from now on, when nobody acknowledges a message of it for so long.

        The node is not started again for that: one that is killed within a second after queues were declared may come
        back with a queue that confirms nothing (seen with RabbitMQ 3.10.8).
        """
        values = {"consumer_timeout": round(seconds * 1000), "channel_tick_interval": 500}
        orders = ", ".join(f"application:set_env(rabbit, {name}, {value})" for name, value in values.items())
        self._node.control("eval", f"{orders}.")

    def have_memory(self, enough: bool) -> None:
        """Let it have too little memory, so that it reads no more from who sends messages, or enough again."""
        self._node.have_memory(enough)

    def files(self) -> list[Path]:
        """Return the files of its queues."""
        return [one for one in (self._folder / "mnesia").rglob("*") if one.is_file()]


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


Broker = ValkeyBroker | RabbitBroker
