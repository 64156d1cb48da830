"""Network faults, against a server that runs a script on each connection."""

from __future__ import annotations

import gzip
import logging
import socket
import struct
import threading
import time

import pytest

from b24offline import errors
from b24offline.rest import Http, RestClient, make_session
from b24offline.rest.transport import Lost, NotSent
from tests.support.ports import free_port
from tests.support.tls import certificate

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"result":true}'
LIMITS = {"connect_timeout_seconds": 2, "read_timeout_seconds": 0.5, "max_response_bytes": 1000, "loopback_http": True}


def read_request(connection):
    """Read one whole request; b"" when the other side has closed."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return data


class Script:
    """Runs ``play(connection)`` for each connection, in its own thread."""

    def __init__(self, play, context=None):
        self.play = play
        self.context = context
        self.connections = 0
        self.requests = 0
        self.stop = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.accepting = threading.Thread(target=self.accept)
        self.accepting.start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            # A failed test keeps its client, and so the connection, alive: do not wait for its end.
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            if self.context:
                connection = self.context.wrap_socket(connection, server_side=True)
            with connection:
                while not self.stop.is_set() and read_request(connection):
                    self.requests += 1
                    if self.play(connection, self.stop) == "close":
                        return
        except OSError:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.accepting.join()

    def client(self, session=None, scheme="http", host="127.0.0.1", **limits):
        url = f"{scheme}://{host}:{self.port}/rest/"
        return RestClient("acme", url, Http(session or make_session(), **{**LIMITS, **limits}))


def answering(content):
    return lambda connection, stop: connection.sendall(content)


def answering_and_closing(content):
    def play(connection, stop):
        connection.sendall(content)
        return "close"

    return play


def reset(connection, stop):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "close"


def hang(connection, stop):
    stop.wait(30)


def drip(head):
    """Send ``head``, then a byte every 50 ms: each arrives well within any timeout for one read."""

    def play(connection, stop):
        connection.sendall(head)
        while not stop.wait(0.05):
            connection.sendall(b"1")

    return play


BROKEN = {
    "closed": answering_and_closing(b""),
    "reset": reset,
    "hang": hang,
    "half headers": answering_and_closing(b"HTTP/1.1 200 OK\r\nConte"),
    "no http": answering_and_closing(b"* OK IMAP4 ready\r\n"),
    "truncated": answering_and_closing(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"result":true}'),
    "truncated, yet json": answering_and_closing(b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"result":true}'),
    "truncated chunks": answering_and_closing(
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{"result":true}\r\n'
    ),
    "wrong chunks": answering_and_closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "dripping headers": drip(b"HTTP/1.1 200 OK\r\nX: "),
    "dripping body": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"),
    "dripping chunks": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n384\r\n"),
    "not gzip": answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
    "too long": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b" " * 1001),
    "html": answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"),
    "html and 200": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
    "empty": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_lost_reply_is_unknown_in_time_and_not_repeated(fault):
    with Script(BROKEN[fault]) as server:
        client = server.client()
        begun = time.monotonic()
        with pytest.raises(errors.UnknownAnswer) as caught:
            client.call("crm.deal.add", {"fields": {"TITLE": "canary"}}, token="canary-token")
        assert time.monotonic() - begun < 20
        assert server.requests == 1
    assert caught.value.executed == "unknown"
    assert caught.value.__cause__ is None
    assert "canary" not in str(caught.value)


def test_dripping_counts_toward_the_read_timeout():
    def play(connection, stop):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        for _ in range(36):
            stop.wait(0.1)
            connection.sendall(b"1")
        stop.wait(60)

    with Script(play) as server:
        begun = time.monotonic()
        with pytest.raises(errors.UnknownAnswer):
            server.client(read_timeout_seconds=4.0).call("m", {}, token="t")
        assert time.monotonic() - begun < 7, "the 3.6 s of dripping count"


def test_a_reply_that_inflates_is_cut_off():
    bomb = gzip.compress(b" " * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    with Script(answering(head + bomb)) as server:
        client = server.client(read_timeout_seconds=5)
        with pytest.raises(errors.UnknownAnswer, match="longer than 1000 bytes"):
            client.call("m", {}, token="t")


def test_a_reply_of_exactly_the_limit_is_accepted():
    with Script(answering(OK)) as server:
        assert server.client(max_response_bytes=15).call("m", {}, token="t") is True
        with pytest.raises(errors.UnknownAnswer):
            server.client(max_response_bytes=14).call("m", {}, token="t")


def test_each_call_on_a_connection_has_its_own_timeout():
    def play(connection, stop):
        stop.wait(0.3)
        connection.sendall(OK)

    with Script(play) as server:
        client = server.client()
        for _ in range(4):  # 1.2 s in all, 0.3 s each: within 0.5 s only if the clock starts anew
            assert client.call("m", {}, token="t") is True
        assert server.connections == 1


def test_a_connection_closed_while_idle_is_replaced():
    closed = threading.Event()

    def play(connection, stop):
        connection.sendall(OK)
        connection.close()
        closed.set()
        return "close"

    with Script(play) as server:
        client = server.client()
        assert client.call("m", {}, token="t") is True
        assert closed.wait(5)
        assert client.call("m", {}, token="t") is True
        assert server.connections == 2


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/rest/", "https://nowhere.invalid/rest/"])
def test_without_a_connection_nothing_was_sent(url):
    client = RestClient("acme", url.format(port=free_port()), Http(make_session(), **LIMITS))
    with pytest.raises(errors.Unreachable) as caught:
        client.call("crm.deal.add", {}, token="t")
    assert caught.value.executed == "no"


def test_a_failed_tls_verification_sends_nothing(tmp_path):
    shown = certificate(tmp_path, "127.0.0.1")
    with Script(answering(OK), shown.context) as server:
        trusted = server.client(make_session(shown.pem), "https")
        assert trusted.call("m", {}, token="t") is True
        for client in (
            server.client(make_session(), "https"),  # an unknown authority
            server.client(make_session(shown.pem), "https", "localhost"),  # another name
        ):
            with pytest.raises(errors.Unreachable):
                client.call("crm.deal.add", {}, token="t")
        assert server.requests == 1


def test_a_server_without_tls_gets_nothing():
    with Script(answering(OK)) as server:
        with pytest.raises(errors.Unreachable):
            server.client(scheme="https").call("crm.deal.add", {}, token="t")
        assert server.requests == 0


def test_a_dripping_tls_answer_ends_too(tmp_path):
    shown = certificate(tmp_path, "127.0.0.1")
    with Script(BROKEN["dripping body"], shown.context) as server:
        begun = time.monotonic()
        with pytest.raises(errors.UnknownAnswer):
            server.client(make_session(shown.pem), "https").call("m", {}, token="t")
        assert time.monotonic() - begun < 20


def test_the_environment_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b")
    monkeypatch.setenv("HOME", str(tmp_path))
    seen = []

    def play(connection, stop):
        connection.sendall(OK)

    with Script(play) as server:
        session = make_session()
        session.hooks["response"].append(lambda r, **_: seen.append(dict(r.request.headers)))
        assert server.client(session).call("m", {}, token="t") is True
    assert "Authorization" not in seen[0]


@pytest.mark.parametrize("fault", ["closed", "hang", "refused", "odd headers"])
def test_secrets_in_a_query_reach_neither_errors_nor_logs(fault, caplog):
    caplog.set_level(logging.DEBUG)
    odd = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nodd line\r\nB: c\r\n\r\n{}")
    with Script(BROKEN.get(fault, odd)) as server:
        port = free_port() if fault == "refused" else server.port
        failure = None
        try:
            Http(make_session(), **LIMITS).exchange("GET", f"http://127.0.0.1:{port}/oauth/", params={"s": "canary"})
        except (NotSent, Lost) as error:
            failure = error
    assert (failure is None) == (fault == "odd headers")
    assert "/oauth/" in caplog.text or fault != "odd headers"
    assert "canary" not in caplog.text
    while failure is not None:
        assert "canary" not in repr(failure)
        failure = failure.__cause__ or failure.__context__
