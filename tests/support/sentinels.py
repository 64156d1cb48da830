"""A primary with a replica and three Sentinels: real processes on free ports of this machine."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from b24offline.supervisor import EmbeddedValkey
from tests.support.ports import free_port
from tests.support.waiting import wait_until

NAME: Final = "the-ledger"
DOWN_AFTER_SECONDS: Final = 2.0
"""How long the primary is silent before the Sentinels agree on another one."""
_REPLICATION_USER: Final = "replication"
_CONFIGURATION: Final = """port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {name} 127.0.0.1 {primary} 2
sentinel down-after-milliseconds {name} {silence}
sentinel failover-timeout {name} 6000
"""


class Watched:
    """A running primary, given a replica and Sentinels while the context lasts."""

    def __init__(self, folder: Path, primary: EmbeddedValkey) -> None:
        self._folder = folder
        self.primary = Redis.from_url(primary.url, decode_responses=True)
        self._port = primary.port
        self._exit = ExitStack()
        self._ports = [free_port() for _ in range(3)]

    @property
    def url(self) -> str:
        """The Sentinels, as ledger and broker take them."""
        return ";".join(f"sentinel://127.0.0.1:{port}/0" for port in self._ports)

    @property
    def variables(self) -> dict[str, str]:
        """The settings of a deployment that has both on it."""
        return {"B24_REDIS_URL": self.url, "CELERY_BROKER_URL": self.url, "B24_REDIS_PRIMARY": NAME}

    def __enter__(self) -> Self:
        with ExitStack() as started:
            replica = started.enter_context(EmbeddedValkey(self._folder / "replica"))
            self.replica = Redis.from_url(replica.url, decode_responses=True)
            self.primary.acl_setuser(
                _REPLICATION_USER, enabled=True, nopass=True, commands=["+psync", "+replconf", "+ping"]
            )
            self.replica.config_set("masteruser", _REPLICATION_USER)
            self.replica.config_set("masterauth", "any")
            self.replica.replicaof("127.0.0.1", self._port)
            wait_until(lambda: self.replica.info("replication")["master_link_status"] == "up", "the replica follows")
            for port in self._ports:
                started.callback(_end, self._sentinel(replica, port))
            wait_until(self._known, "the Sentinels know each other and the replica")
            self._exit = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _sentinel(self, server: EmbeddedValkey, port: int) -> subprocess.Popen[bytes]:
        folder = self._folder / f"sentinel-{port}"
        folder.mkdir()
        silence = round(DOWN_AFTER_SECONDS * 1000)
        (folder / "sentinel.conf").write_text(
            _CONFIGURATION.format(port=port, folder=folder, name=NAME, primary=self._port, silence=silence)
        )
        with (folder / "sentinel.log").open("ab") as log:
            return subprocess.Popen(
                [server.command[0], str(folder / "sentinel.conf"), "--sentinel"], stdout=log, stderr=log
            )

    def _known(self) -> bool:
        try:
            states = [Redis(port=port, decode_responses=True).sentinel_master(NAME) for port in self._ports]
        except RedisError:
            return False
        return all((each["num-slaves"], each["num-other-sentinels"]) == (1, 2) for each in states)

    def cut(self) -> None:
        """Let the replica hear no more from the primary: it lags from now on."""
        self.primary.acl_deluser(_REPLICATION_USER)
        wait_until(lambda: self.replica.info("replication")["master_link_status"] == "down", "the replica lags")

    def promoted(self) -> bool:
        """Return whether the replica has become the primary."""
        return _role(self.replica) == "master"

    def is_replica(self) -> bool:
        """Return whether the replica is one, again."""
        return _role(self.replica) == "slave"

    def hand_back(self) -> bool:
        """Ask for a failover that nothing has caused; return whether the first server is the primary."""
        if _role(self.primary) == "master":
            return True
        with suppress(ResponseError):  # not yet, or under way
            Redis(port=self._ports[0]).execute_command("SENTINEL", "FAILOVER", NAME)
        return False


def _role(server: Redis) -> str:
    """Return what a server says that it is; nothing while a Sentinel that changes it closes its connections."""
    with suppress(RedisError):
        return str(server.info("replication")["role"])
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
