"""Connecting is bounded as a whole: the name, every address and TLS. What took longer has sent nothing."""

from __future__ import annotations

import socket
import time

import pytest

from b24offline import errors
from b24offline.rest import Http, RestClient, make_session
from tests.support.ports import free_port
from tests.support.tls import certificate
from tests.unit.rest.test_client_faults import OK, Script, answering


def at(monkeypatch, *addresses, seconds=0.0, port=0):
    """The host has these addresses, resolved after so many seconds; from then on each address resolves to itself."""
    numeric, asked = socket.getaddrinfo, []

    def found(host, named, *rest, **more):
        if asked and host in addresses:
            return numeric(host, named, *rest, **more)
        asked.append(host)
        time.sleep(seconds)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or named)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


class Crowded:
    """Loopback addresses on which nothing is accepted and no further connection fits: connecting to them hangs."""

    def __init__(self, port, *addresses):
        self.open = []
        for address in addresses:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, port))
            listener.listen(0)
            self.open.append(listener)
            for _ in range(4):
                waiting = socket.socket()
                waiting.setblocking(False)
                waiting.connect_ex((address, port))
                self.open.append(waiting)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for opened in self.open:
            opened.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_took_too_long_is_closed_unused(scheme, monkeypatch, tmp_path):
    shown = certificate(tmp_path)
    pem, context = shown.pem, shown.context
    with Script(answering(OK), context if scheme == "https" else None) as server:
        at(monkeypatch, "127.0.0.1", seconds=0.4)
        client = server.client(make_session(pem), scheme, connect_timeout_seconds=0.3)
        with pytest.raises(errors.Unreachable) as caught:
            client.call("event.offline.error", {}, token="t")
        assert caught.value.executed == "no"
        assert server.requests == 0


def test_the_connect_timeout_covers_the_handshake(monkeypatch, tmp_path):
    with Script(answering(OK)) as server:  # which says nothing before it has a request
        at(monkeypatch, "127.0.0.1", seconds=1.8)
        begun = time.monotonic()
        with pytest.raises(errors.Unreachable):
            server.client(scheme="https", host="localhost", connect_timeout_seconds=3.0).call("m", {}, token="t")
        assert time.monotonic() - begun < 4.5


def test_the_connect_timeout_covers_all_addresses(monkeypatch):
    port = free_port()
    dead = "127.0.0.2", "127.0.0.3", "127.0.0.4"
    with Crowded(port, *dead):
        at(monkeypatch, *dead)
        url = f"http://localhost:{port}/rest/"
        client = RestClient("acme", url, Http(make_session(), 1, 1, 1, loopback_http=True))
        begun = time.monotonic()
        with pytest.raises(errors.Unreachable):
            client.call("event.offline.get", {}, token="t")
        assert time.monotonic() - begun < 1.8


def test_a_dead_address_leaves_time_for_the_next_one(monkeypatch):
    with Script(answering(OK)) as server, Crowded(server.port, "127.0.0.2"):
        at(monkeypatch, "127.0.0.2", "127.0.0.1")
        client = server.client(host="localhost", connect_timeout_seconds=1.0)
        assert client.call("m", {}, token="t") is True
        assert client.call("m", {}, token="t") is True
        assert server.connections == 1
