"""The receiver over HTTP: what is read, for how long, and what the answers tell."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import pytest

from b24offline.push import WebApp, server
from b24offline.push.form import MAX_BODY_BYTES
from tests.support.waiting import wait_until

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@dataclass
class Served:
    """A running server, and the bodies that reached the receiver."""

    port: int
    bodies: list[bytes] = field(default_factory=list)

    def send(self, verb: str, path: str, body: bytes = b"", headers: Any = FORM) -> tuple[int, bytes, str | None]:
        """Return status, body and the server's name of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.getheader("Server")
        finally:
            connection.close()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    found = Served(0)

    def receive(body: bytes) -> int:
        found.bodies.append(body)
        return 403 if body == b"a=1" else 200

    made = server.make_server(WebApp(receive), "127.0.0.1:0")
    found.port = made.effective_port
    threading.Thread(target=made.run, daemon=True).start()
    yield found
    made.close()


@pytest.mark.parametrize(
    ("verb", "path", "body", "headers", "status"),
    [
        ("POST", "/b24", b"a=2", FORM, 200),
        ("POST", "/anything", b"a=1", FORM, 403),
        ("GET", "/healthz", b"", {}, 200),
        ("GET", "/b24", b"", {}, 404),
        ("PUT", "/b24", b"a=1", FORM, 404),
        ("POST", "/b24", b"{}", {"Content-Type": "application/json"}, 400),
        ("POST", "/b24", b"a=1", {}, 400),
    ],
)
def test_answers_have_a_status_and_nothing_else(
    served: Served, verb: str, path: str, body: bytes, headers: Any, status: int
) -> None:
    assert served.send(verb, path, body, headers) == (status, b"", None)


def test_a_body_that_is_too_large_never_reaches_the_receiver(served: Served) -> None:
    status, said, name = served.send("POST", "/b24", b"a" * (MAX_BODY_BYTES + 1))
    assert (status, served.bodies, name) == (413, [], None)
    assert b"b24offline" not in said
    assert served.send("POST", "/b24", b"a" * MAX_BODY_BYTES)[0] == 200


def test_headers_that_are_too_large_are_refused(served: Served) -> None:
    assert served.send("POST", "/b24", b"a=2", {**FORM, "X-Long": "a" * 20_000})[0] == 431
    assert served.bodies == []


def dripping(port: int) -> float:
    """Send a request byte by byte, never to its end. Return after how many seconds the server ended the connection."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sender:
        head = f"POST /b24 HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM['Content-Type']}\r\nContent-Length: 60000\r\n\r\n"
        sender.sendall(head.encode())
        while time.monotonic() - begun < 20:
            try:
                sender.sendall(b"a")
                sender.setblocking(False)
                if sender.recv(1) == b"":
                    break
            except BlockingIOError:
                pass
            except OSError:
                break
            finally:
                sender.setblocking(True)
            time.sleep(0.05)
    return time.monotonic() - begun


def test_a_sender_that_drips_is_cut_off_and_holds_up_nobody(served: Served) -> None:
    ended: list[float] = []
    threads = [threading.Thread(target=lambda: ended.append(dripping(served.port))) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert served.send("POST", "/b24", b"a=2")[0] == 200
    wait_until(lambda: len(ended) == 20, "all drips are cut off", 60)
    assert max(ended) < 15
    assert served.bodies == [b"a=2"]
