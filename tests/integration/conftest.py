"""Brokers and stacks for the integration tests: real processes, nothing mocked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from b24offline.supervisor import EmbeddedValkey
from tests.integration.stack import Stack
from tests.rabbit import RabbitNode, server_binary


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """One RabbitMQ node for the session."""
    if server_binary() is None:
        pytest.skip("RabbitMQ is not installed: apt-get install rabbitmq-server")
    with RabbitNode(tmp_path_factory.mktemp("rabbit")) as node:
        yield node


@pytest.fixture(params=["valkey", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> str:
    """The broker of a test that runs on both."""
    if request.param == "valkey":
        return valkey.url
    return str(request.getfixturevalue("rabbit").url)


@pytest.fixture
def start_stack(tmp_path: Path, valkey: EmbeddedValkey, redis: Any) -> Iterator[Callable[..., Stack]]:
    """Starts stacks; each ends, with its log shown, after the test. The ledger is empty at first."""
    with ExitStack() as running:

        def start(broker: str | None = None, **options: Any) -> Stack:
            stack = Stack(tmp_path, valkey.url, broker or valkey.url, **options)
            return running.enter_context(stack)

        yield start
