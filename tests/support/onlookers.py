"""Observers of a running deployment: Flower, a receiver of Celery's events, and a monitor of the broker."""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import requests
from celery import Celery
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from b24offline.supervisor import CeleryProcess
from tests.support.ports import free_port
from tests.support.waiting import GIVE_UP_SECONDS, wait_until

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
_SNAPSHOT = re.compile(rb":snapshot:")


class Flower:
    """Flower beside a stack, with basic authentication; ``arguments`` are passed on."""

    def __init__(self, environ: Mapping[str, str], folder: Path, *arguments: str) -> None:
        self.port = free_port()
        command = ["flower", "--address=127.0.0.1", f"--port={self.port}", "--basic-auth=ops:flower-test", *arguments]
        self.process = CeleryProcess("flower", command, environ=environ, log_path=folder / "flower.log")
        self._session = requests.Session()
        self._session.auth = ("ops", "flower-test")

    def __enter__(self) -> Self:
        self.process.start()
        try:
            wait_until(self._answers, "Flower answers")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self.process.kill()
        print(f"--- flower\n{self.process.log_tail()}")

    def _answers(self) -> bool:
        assert self.process.alive, self.process.log_tail()
        try:
            return self.get("/healthcheck").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str, **query: Any) -> requests.Response:
        """Send a GET request."""
        return self._session.get(f"http://127.0.0.1:{self.port}{path}", params=query, timeout=30)

    def post(self, path: str, **form: Any) -> requests.Response:
        """Send a POST request."""
        return self._session.post(f"http://127.0.0.1:{self.port}{path}", data=form, timeout=30)

    def tasks(self, **query: Any) -> dict[str, dict[str, Any]]:
        """Return the tasks by id, as `/api/tasks` shows them."""
        answer = self.get("/api/tasks", **query)
        answer.raise_for_status()
        return dict(answer.json())

    def rows(self, name: str, **query: Any) -> list[dict[str, Any]]:
        """Return the tasks with a name."""
        return list(self.tasks(taskname=name, **query).values())

    def everything(self) -> bytes:
        """Return all that it shows: the API's answers, and the page of every task and worker."""
        paths = ["/", "/tasks", "/broker", "/metrics"]
        paths += ["/api/tasks", "/api/workers?refresh=1", "/api/task/types", "/api/queues/length"]
        for task_id in self.tasks():
            paths += [f"/api/task/info/{task_id}", f"/task/{task_id}"]
        paths += [f"/worker/{name}" for name in self.get("/api/workers").json()]
        return b"\n".join(self.get(path).content for path in paths)


class Events:
    """Receive every event that workers and clients send, as any monitor can."""

    def __init__(self, broker_url: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self._app = Celery("onlooker", broker=broker_url, set_as_current=False)
        self._connection = self._app.connection_for_read()
        self._receiver = self._app.events.Receiver(self._connection, handlers={"*": self.seen.append})
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join(20)
        self._connection.release()
        self._app.close()

    def _receive(self) -> None:
        self._receiver.capture(limit=None, timeout=None, wakeup=False)

    def everything(self) -> bytes:
        """Return all events as text."""
        return json.dumps(self.seen, default=repr, ensure_ascii=False).encode()


class BrokerLog:
    """Every command that a Redis or Valkey server executes, except those that write a snapshot of an object."""

    def __init__(self, url: str) -> None:
        self.commands: list[bytes] = []
        self._redis = Redis.from_url(url, socket_timeout=None)  # no command comes while processes start
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(GIVE_UP_SECONDS), "the broker's log did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._redis.set("onlooker:end", "1")
        self._thread.join(20)
        self._redis.close()

    def _listen(self) -> None:
        with self._redis.monitor() as monitor:
            self._ready.set()
            while not self._stop.is_set():
                try:
                    line = monitor.connection.read_response(disable_decoding=True)
                except RedisConnectionError:
                    return
                if not _SNAPSHOT.search(line):
                    self.commands.append(line)

    def everything(self) -> bytes:
        """Return the commands and what Redis holds now, with the decoded bodies of messages."""
        text = b"\n".join([*self.commands, *kept_in(self._redis)])
        return text + b"\n" + b"\n".join(_readable(encoded) for encoded in _BASE64.findall(text))


def kept_in(redis: Redis) -> list[bytes]:
    """Return name and content of every key that is no snapshot of an object."""
    read: dict[bytes, Callable[[bytes], list[bytes]]] = {
        b"string": lambda key: [redis.get(key) or b""],
        b"list": lambda key: redis.lrange(key, 0, -1),
        b"set": lambda key: list(redis.smembers(key)),
        b"zset": lambda key: redis.zrange(key, 0, -1),
        b"hash": lambda key: [part for pair in redis.hgetall(key).items() for part in pair],
        b"none": lambda key: [],
    }
    found: list[bytes] = []
    for key in redis.scan_iter(count=500):
        if not _SNAPSHOT.search(key):
            found += [key, *read[redis.type(key)](key)]
    return found


def _readable(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return b""
