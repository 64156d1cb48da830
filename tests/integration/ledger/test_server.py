"""Ledger and broker behind Sentinels, through a failover."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kombu
import pytest
from redis.exceptions import RedisError

from b24offline.config import Config
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey
from b24offline.tasks import redis_transport
from tests.support.sentinels import NAME, Watched
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[EmbeddedValkey, Watched]]:
    with EmbeddedValkey(tmp_path / "primary") as primary, Watched(tmp_path, primary) as watched:
        yield primary, watched


def test_a_client_follows_the_primary(servers: tuple[EmbeddedValkey, Watched], tmp_path: Path) -> None:
    primary, watched = servers
    redis = Runtime(Config.load({**watched.variables, "B24_DATA_DIR": str(tmp_path)})).redis
    redis.set("before", "1")
    watched.primary.execute_command("WAIT", 1, 10_000)
    with kombu.Connection(watched.url, transport_options={"master_name": NAME}) as connection:
        queue = connection.SimpleQueue("letters")
        queue.put("before")
        assert queue.get(timeout=60).payload == "before"
        primary.stop()

        def written() -> bool:
            try:
                return bool(redis.set("after", "1"))
            except RedisError:
                return False

        wait_until(written, "the other server is found")
        assert watched.replica.mget("before", "after") == ["1", "1"]

        def sent() -> bool:
            try:
                connection.ensure_connection(max_retries=1)
                connection.SimpleQueue("letters").put("after")
            except connection.recoverable_connection_errors:
                connection.collapse = None
                return False
            return True

        wait_until(sent, "the broker's other server is found")
        assert watched.replica.llen("letters") >= 1


def test_a_broker_behind_sentinels_outlives_garbage_as_others_do(servers: tuple[EmbeddedValkey, Watched]) -> None:
    _, watched = servers
    redis_transport.use()
    with kombu.Connection(watched.url, transport_options={"master_name": NAME}) as connection:
        assert isinstance(connection.transport, redis_transport.SentinelTransport)
        assert isinstance(connection.default_channel, redis_transport.SentinelChannel)
