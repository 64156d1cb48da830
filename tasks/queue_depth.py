"""How full the broker is, as a worker sees it: what waits in our queues, and whether it is short of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import amqp
from kombu.exceptions import KombuError

from b24offline import contract
from b24offline.delivery import BrokerLoad
from b24offline.errors import BrokerUnavailable
from b24offline.ledger import memory_share
from b24offline.settings import config
from b24offline.tasks.broker_readers import waiting_in
from b24offline.tasks.celery_app import app

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 5.0
NOWHERE: Final = "b24offline.nowhere"
"""A queue that is not there: the broker drops what is sent to it."""


def no_step_waits() -> bool:
    """Return whether no message waits in any queue of steps; False also when the broker does not tell.

    What a worker has taken and not begun is not counted: one message for each of its processes.
    """
    try:
        with _connected() as connection:
            return not any(waiting_in(connection, name) for name in _queues_of_steps())
    except BrokerUnavailable:
        return False


def broker_load() -> BrokerLoad:
    """Return how full the broker is. Raise BrokerUnavailable when it does not tell."""
    with _connected() as connection:
        names = {*contract.QUEUES, *_queues_of_steps()}
        waiting = sum(waiting_in(connection, name) for name in names)
        if connection.transport.driver_type == "redis":
            return BrokerLoad(waiting, memory_share=memory_share(connection.default_channel.client.info("memory")))
        return BrokerLoad(waiting, blocked=_blocked(connection))


def _queues_of_steps() -> set[str]:
    return {contract.QUEUE_EVENTS, *(lane.queue for lane in config.all_lanes.values())}


@contextmanager
def _connected() -> Iterator[Any]:
    """Yield a connection of which nothing waits for long; whatever its library raises becomes BrokerUnavailable."""
    connection: Any = app.connection_for_read(connect_timeout=CONNECT_SECONDS)
    on_redis = connection.transport.driver_type == "redis"
    if on_redis:
        connection.transport_options = {**connection.transport_options, "socket_timeout": ANSWER_SECONDS}
    try:
        with connection:
            connection.connect()  # tries once; asking for a channel would retry until the broker is there
            if not on_redis:
                connection.connection.transport.sock.settimeout(ANSWER_SECONDS)
            yield connection
    except (KombuError, OSError, *connection.connection_errors, *connection.channel_errors) as error:
        raise BrokerUnavailable(f"{type(error).__name__}: {error}"[:200]) from None


def _blocked(connection: Any) -> bool:
    """Return whether RabbitMQ takes no messages: it says so only to who has just sent one."""
    told: list[object] = []
    connection.connection.on_blocked = told.append
    channel = connection.channel()
    confirmed: list[object] = []
    channel.events["basic_ack"].add(lambda *_: confirmed.append(True))
    channel.confirm_select()
    channel.basic_publish(amqp.Message(""), exchange="", routing_key=NOWHERE)
    with suppress(TimeoutError):
        while not (told or confirmed):
            connection.drain_events(timeout=ANSWER_SECONDS)
    if confirmed:
        return False
    connection.connection.collect()  # the broker reads no more from it, and would never answer a farewell
    return True
