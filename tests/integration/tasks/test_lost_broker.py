"""A worker that loses its Redis broker while it holds a message lives on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kombu

from b24offline.supervisor import EmbeddedValkey
from b24offline.tasks import redis_transport

if TYPE_CHECKING:
    from pathlib import Path


def test_a_channel_whose_broker_is_lost_closes_with_a_message_in_hand(tmp_path: Path) -> None:
    """As Celery's consumer leaves it: what it collects has lost its connection, and is closed once more."""
    redis_transport.use()
    with EmbeddedValkey(tmp_path) as valkey:
        connection = kombu.Connection(valkey.url)
        connection.SimpleQueue("letters").put("one")
        channel = connection.default_channel
        held = kombu.Queue("letters").bind(channel).get()
    connection.transport.client = None
    channel.close()
    assert held is not None
    assert not held.acknowledged


def test_a_channel_that_is_closed_twice_says_nothing(tmp_path: Path) -> None:
    """As a worker does that is ended: it closes the connection, then each channel."""
    redis_transport.use()
    with EmbeddedValkey(tmp_path) as valkey:
        connection = kombu.Connection(valkey.url)
        channel = connection.default_channel
        connection.close()
        channel.close()
    assert channel.closed
