"""A broker that is lost while a message is held, and one that takes messages and confirms none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import kombu
import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from b24offline.settings import celeryconfig
from b24offline.supervisor import EmbeddedValkey
from b24offline.tasks import redis_transport

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.rabbit import RabbitNode


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


def test_a_channel_keeps_one_client_for_as_long_as_its_connections(tmp_path: Path) -> None:
    redis_transport.use()
    with EmbeddedValkey(tmp_path) as valkey, kombu.Connection(valkey.url) as connection:
        letters = connection.SimpleQueue("letters")
        letters.put("one")
        channel = connection.default_channel
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as again:
            assert first is again
        channel._disconnect_pools()
        with channel.conn_or_acquire() as later:
            assert later is not first
        assert letters.get(timeout=5).payload == "one"


def test_a_channel_that_is_closed_twice_says_nothing(tmp_path: Path) -> None:
    """As a worker does that is ended: it closes the connection, then each channel."""
    redis_transport.use()
    with EmbeddedValkey(tmp_path) as valkey:
        connection = kombu.Connection(valkey.url)
        channel = connection.default_channel
        connection.close()
        channel.close()
    assert channel.closed


def _send_three(app: Celery) -> None:
    for _ in range(3):
        app.send_task("letter", queue="letters")


@pytest.mark.timeout(120)
def test_a_message_that_is_never_confirmed_fails_in_time(rabbit: RabbitNode) -> None:
    """As with a RabbitMQ whose memory is full: it reads no more from who has sent it anything."""
    with Celery("letters", broker=rabbit.url, set_as_current=False) as app:
        app.conf.broker_transport_options = celeryconfig.RABBITMQ_OPTIONS | {"read_timeout": 1, "write_timeout": 1}
        app.conf.task_publish_retry_policy = {"max_retries": 0}
        app.send_task("letter", queue="letters")
        rabbit.have_memory(enough=False)
        try:
            with pytest.raises(OperationalError):
                _send_three(app)  # what is on its way when the alarm begins may still be confirmed
        finally:
            rabbit.have_memory(enough=True)
        app.send_task("letter", queue="letters")
        with app.connection_for_write() as connection:
            assert connection.default_channel.queue_purge("letters") >= 2
            connection.default_channel.queue_delete("letters")
