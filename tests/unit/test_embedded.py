"""The Valkey server of our own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from core_events import wait_for
from redis import Redis

from b24offline.embedded import EmbeddedValkey, free_port
from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.unit


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_runs_while_the_context_lasts(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "new" / "folder")
    with pytest.raises(ConfigError, match="not running"):
        _ = server.pid
    with server:
        client = Redis.from_url(server.url, decode_responses=True)
        assert client.set("a", "1")
        assert client.info("server")["process_id"] == server.pid
        assert client.config_get("bind")["bind"] == "127.0.0.1"
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        pid = server.pid
    wait_for(lambda: not alive(pid))
    server.stop()


def test_it_keeps_its_data_when_told(tmp_path: Path) -> None:
    for keep, found in ((True, "1"), (False, None)):
        folder = tmp_path / str(keep)
        with EmbeddedValkey(folder, keep=keep) as server:
            Redis.from_url(server.url).set("a", "1")
        with EmbeddedValkey(folder, keep=keep) as server:
            assert Redis.from_url(server.url, decode_responses=True).get("a") == found


def test_a_port_that_is_taken_by_another_server_is_not_taken_for_ours(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "one") as first:
        second = EmbeddedValkey(tmp_path / "two", port=first.port)
        with pytest.raises(ConfigError, match=r"valkey\.log"):
            second.start()
        assert Redis.from_url(first.url).ping()


def test_free_ports_are_free() -> None:
    assert 1024 < free_port() < 65536
