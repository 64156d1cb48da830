"""Connections to a Redis broker: a server that is gone without a word is noticed by the kernel, in about a minute."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from b24offline.tasks import app
from tests.support.celery_bench import broker

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.supervisor import EmbeddedValkey

__all__ = ["broker"]


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux names these limits")
def test_a_connection_to_the_broker_is_watched(valkey: EmbeddedValkey, broker: Callable[[str], None]) -> None:
    broker(valkey.url)
    with app.connection_for_read() as connection, connection.channel() as channel:
        link = channel.client.connection_pool.get_connection()
        link.connect()
        reply = {
            name: link._sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        }
        assert link._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    silent_seconds = reply["TCP_KEEPIDLE"] + reply["TCP_KEEPINTVL"] * reply["TCP_KEEPCNT"]
    assert 0 < silent_seconds <= 60
    assert 0 < reply["TCP_USER_TIMEOUT"] <= 60_000
