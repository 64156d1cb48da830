"""The brokers of a run: a Valkey for each contestant, or one RabbitMQ with a virtual host for each."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis

from b24offline.supervisor import EmbeddedValkey
from benchmarks.counts import Counts, of_broker
from tests.support.rabbit import RabbitNode

_CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"


@dataclass(frozen=True)
class Broker:
    """The address of a broker. ``redis``: a client of a Valkey; of RabbitMQ nothing is counted."""

    kind: str
    url: str
    redis: Redis | None = None

    def counts(self) -> Counts:
        """Return what it has done."""
        return of_broker(self.redis) if self.redis is not None else Counts()


class Brokers:
    """Makes a broker for each contestant."""

    kind = "valkey"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def broker_for(self, name: str) -> Iterator[Broker]:
        """Run a broker that nobody else uses."""
        with EmbeddedValkey(self._folder / f"broker-{name}") as server, Redis.from_url(server.url) as client:
            yield Broker(self.kind, server.url, client)

    def __enter__(self) -> Brokers:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class RabbitBrokers(Brokers):
    """Virtual hosts of one node."""

    kind = "rabbitmq"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._home = folder / "rabbitmq"
        self._node = RabbitNode(self._home)

    def __enter__(self) -> Brokers:
        self._node.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._node.__exit__()

    @contextmanager
    def broker_for(self, name: str) -> Iterator[Broker]:
        """Make a virtual host."""
        self._control("add_vhost", name)
        self._control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        yield Broker(self.kind, f"{self._node.url.removesuffix('/')}{name}")

    def _control(self, *command: str) -> None:
        environ = {**os.environ, "HOME": str(self._home), "RABBITMQ_CONF_ENV_FILE": str(self._home / "env.conf")}
        node = f"b24offline-{self._node.port}@localhost"
        subprocess.run(
            [_CONTROL, "-n", node, *command], env=environ, check=True, stdout=subprocess.DEVNULL, timeout=120
        )
