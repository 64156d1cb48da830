"""The containers of the smoke tests, as pytest-celery sees them: brokers in our versions, our image as worker and beat.

The emulated portal speaks plain http on loopback only, so whoever talks to it shares its network, as in compose/demo.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from celery import Celery
from pytest_celery import (
    CeleryTestContainer,
    CeleryTestSetup,
    CeleryTestWorker,
    CeleryWorkerContainer,
    RabbitMQContainer,
    RedisContainer,
)

from b24offline.settings import celeryconfig
from tests.support.waiting import NotInTime, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IMAGE: Final = "b24offline:smoke"
VALKEY_IMAGE: Final = "valkey/valkey:9"
RABBITMQ_IMAGE: Final = "rabbitmq:4"
POSTGRES_IMAGE: Final = "postgres:17"
PROBE: Final = Path(__file__).resolve().parents[1].joinpath("compose", "probe.py").read_text("utf-8")


class Valkey(RedisContainer):
    """Valkey without a file: as a broker it may lose everything when it is restarted."""

    @classmethod
    def image(cls) -> str:
        """Name the image."""
        return VALKEY_IMAGE

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """Start the server under its own name."""
        return ["valkey-server", *super().command(*args)[1:]]


class Ledger(Valkey):
    """Valkey with its append-only file."""

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """Start the server with appendonly."""
        return [*super().command(*args), "--appendonly", "yes"]


class RabbitMQ(RabbitMQContainer):
    """RabbitMQ, as it comes."""

    @property
    def ready_prompt(self) -> str:
        """Say what is printed whatever the level of the log."""
        return "Starting broker... completed"

    @classmethod
    def image(cls) -> str:
        """Name the image."""
        return RABBITMQ_IMAGE


class Postgres(CeleryTestContainer):
    """PostgreSQL, empty."""

    def ready(self) -> bool:
        """Ask by TCP: while the image prepares its folder it listens on a socket file only."""
        return bool(super().ready() and self.exec_run(["pg_isready", "-q", "-h", "127.0.0.1"]).exit_code == 0)

    def url(self) -> str:
        """Return the address inside the network."""
        return f"postgresql://postgres:postgres@{self.attrs['Config']['Hostname']}/postgres?sslmode=disable"


class Portal(CeleryTestContainer):
    """The emulated portal, and the place from which portal, ledger and mirror are asked."""

    environment: Mapping[str, str]

    @property
    def ready_prompt(self) -> None:
        """Wait for nothing: workers wait for their portal."""
        return

    def ask(self, *command: str) -> Any:
        """Return the reply of a command of the probe."""
        code, (output, errors) = self.exec_run(
            ["python", "-c", PROBE, *command], environment=dict(self.environment), demux=True
        )
        assert code == 0, (errors or b"").decode()[-3000:]
        return json.loads(output)


class Worker(CeleryWorkerContainer):
    """Our image as a worker on all queues."""

    @classmethod
    def command(cls, *args: str, **_: Any) -> list[str]:
        """Start a worker as the image does, with four processes."""
        common = ("--without-mingle", "--without-gossip", "-l", "INFO")
        return ["celery", "-A", "b24offline", "worker", "-n", f"{cls.worker_name()}@%h", "-c", "4", *common, *args]

    @classmethod
    def worker_name(cls) -> str:
        """Name the node."""
        return "smoke"


class Beat(CeleryWorkerContainer):
    """Our image as beat."""

    @classmethod
    def command(cls, *_: str, **__: Any) -> list[str]:
        """Start beat as compose.yaml does."""
        return ["celery", "-A", "b24offline", "beat", "--pidfile=", "-l", "INFO"]

    @property
    def ready_prompt(self) -> str:
        """Say what the log shows when it has begun."""
        return "beat: Starting..."


class Shop(CeleryWorkerContainer):
    """Another stack: examples/existing_stack, its worker on its queue."""

    @classmethod
    def command(cls, *_: str, **__: Any) -> list[str]:
        """Start the worker of the shop."""
        return ["celery", "-A", "shop", "worker", "-n", "shop@%h", "-Q", "celery", "-c", "1", "-l", "INFO"]


class Setup(CeleryTestSetup):
    """The nodes of a test, with an application that reaches their remote control."""

    worker: CeleryTestWorker

    @classmethod
    def update_app_config(cls, app: Celery) -> None:
        """Take over what a client of our workers has to know."""
        app.conf.update(control_exchange=celeryconfig.control_exchange, accept_content=["json"])


def wait_for(condition: Callable[[], object], what: str, seconds: float, logs: Callable[[], str]) -> None:
    """Wait until it holds; else fail with the end of the logs."""
    try:
        wait_until(condition, what, seconds, pause_seconds=1)
    except NotInTime as error:
        raise AssertionError(f"{error}\n{logs()[-6000:]}") from None
