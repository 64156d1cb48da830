"""Fixtures of all tests, the tier of each, and a skip that is a failure in CI."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis import Redis

from b24offline.store import Cipher, Store
from b24offline.supervisor import EmbeddedValkey
from tests.support.rabbit import RabbitNode, server_binary
from tests.support.store_bench import KEY, Clock, postgres_database

TIERS = {"smoke": 900, "e2e": 900, "property": 300, "repo": 180, "integration": 300, "unit": 60}
"""Folder, the longest first as they run -> seconds a test may take. A wait in a test ends before, and says for what."""

# An example that took long says something about the machine, not about the code.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests that want a Docker engine to `make smoke`, which names them."""
    apart = collection_path == Path(__file__).with_name("smoke")
    return True if apart and not any("smoke" in argument for argument in config.args) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn a skip into a failure where CI is set: what CI leaves out, nobody runs."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, which is its folder, and bound its time."""
    tiers = list(TIERS)

    def tier(item: pytest.Item) -> str:
        return item.path.relative_to(Path(__file__).parent).parts[0]

    for item in items:
        item.add_marker(tier(item))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIERS[tier(item)]))
    items.sort(key=lambda item: tiers.index(tier(item)))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Restore the logs: a command that is called in this process configures them for all of it."""
    root, urllib3 = logging.getLogger(), logging.getLogger("urllib3")
    handlers, level, urllib3_level = root.handlers[:], root.level, urllib3.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    urllib3.setLevel(urllib3_level)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """One embedded Valkey for the whole session."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def redis(valkey: EmbeddedValkey) -> Iterator[Redis]:
    """A client of the embedded Valkey, which is emptied before each test."""
    client = Redis.from_url(valkey.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One RabbitMQ node for the session."""
    if server_binary() is None:
        pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
    with RabbitNode(tmp_path_factory.mktemp("rabbit")) as node:
        yield node


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/deep/b24.db"
    else:
        with postgres_database() as address:
            yield address


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(database_url, clock):
    store = Store(database_url, Cipher([KEY]), clock=clock)
    store.create_schema()
    yield store
    store.engine.dispose()
