"""What all tests share: an embedded Valkey, and that nothing is skipped where CI runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis import Redis

from b24offline.supervisor import EmbeddedValkey

GIVE_UP_SECONDS = 900
"""For tests that wait for processes: after their own deadlines, which say what did not happen."""

# An example that took long says something about the machine, not about the code.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """With CI set a skip is a failure: what CI leaves out, nobody runs."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder of a test says its kind, and how long it may take."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(folder)
        if folder in ("integration", "e2e"):
            item.add_marker(pytest.mark.timeout(GIVE_UP_SECONDS))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that is called in this process sets the logs up for all of it."""
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
    """A client of the embedded Valkey; the server is ours, so it is emptied before each test."""
    client = Redis.from_url(valkey.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()
