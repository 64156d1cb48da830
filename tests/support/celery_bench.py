"""The deployment's tasks in this process: their portal, their ledger and their broker on the embedded Valkey."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from kombu import pools

from b24offline.config import Config
from b24offline.ledger import LeaseRenewer
from b24offline.runtime import Runtime
from b24offline.tasks import app, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from redis import Redis

    from b24offline.supervisor import EmbeddedValkey

VARIABLES = {
    "B24_PORTAL_URL": "https://acme.example/rest/",
    "B24_PORTAL_NAME": "acme",
    "B24_CLIENT_ID": "app.1",
    "B24_CLIENT_SECRET": "s",
    "B24_REFRESH_TOKEN": "r",
}


@pytest.fixture
def broker() -> Iterator[Callable[[str], None]]:
    """Gives the application another broker, until the test ends."""

    def use(url: str) -> None:
        app.set_current()  # shared tasks send by the current application, and another test may have made one
        pools.reset()
        app.amqp._producer_pool = app._pool = None
        app.conf.broker_url = app.conf.broker_read_url = app.conf.broker_write_url = url

    before = app.conf.broker_url
    yield use
    use(before)


@pytest.fixture
def deployed(
    valkey: EmbeddedValkey,
    redis: Redis,
    broker: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Runtime]:
    """Makes what the tasks work with, from the variables of a portal."""

    def make(**variables: str) -> Runtime:
        given = {**VARIABLES, "B24_REDIS_URL": valkey.url, "B24_DATA_DIR": str(tmp_path), **variables}
        runtime = Runtime(Config.load(given))
        assert runtime.ensure_configured_portal() is not None
        monkeypatch.setattr(process, "_made", {os.getpid(): (runtime, LeaseRenewer(20))})
        broker(valkey.url)
        return runtime

    return make


@pytest.fixture
def nowhere() -> str:
    """The address of a broker that is away."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{free.getsockname()[1]}/0"
