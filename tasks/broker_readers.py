"""Who reads which queue of the broker, and how much waits in it; for doctor and metrics, from outside of any worker."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from kombu.exceptions import KombuError

from b24offline.errors import BrokerUnavailable
from b24offline.tasks.celery_app import app as ours

_ANSWER_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 5
_OURS, _THEIRS = "b24offline", "celery"
"""Names under which our workers, and those of other Celery stacks, listen to remote control."""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages wait in a queue. ``oldest_seconds``: age of the first one; None where the broker keeps it."""

    messages: int
    oldest_seconds: float | None


def queue_depths(url: str, queues: Collection[str]) -> Mapping[str, QueueDepth]:
    """Return queue -> how much waits in it. Raise BrokerUnavailable."""
    with _connected(Celery("metrics", broker=url, set_as_current=False)) as connection:
        return {
            queue: QueueDepth(waiting_in(connection, queue), _oldest_seconds(connection, queue)) for queue in queues
        }


def _oldest_seconds(connection: Any, queue: str) -> float | None:
    """Return the age of the first message of a queue on Redis, by the clock of its sender; 0.0 of an empty one."""
    channel = connection.channel()
    try:
        if not hasattr(channel, "client"):
            return None  # RabbitMQ shows a message only to whom it gives it
        first = channel.client.lindex(queue, -1)
        if first is None:
            return 0.0
        with suppress(ValueError, TypeError, KeyError):  # not a message of ours
            return max(0.0, time.time() - float(json.loads(first)["properties"]["timestamp"]))
        return None
    finally:
        channel.close()


@contextmanager
def _connected(app: Celery) -> Iterator[Any]:
    """Yield a connection that is verified as that of our workers. Raise BrokerUnavailable."""
    app.conf.update(
        broker_use_ssl=ours.conf.broker_use_ssl, broker_transport_options=ours.conf.broker_transport_options
    )
    connection: Any = app.connection_for_read(connect_timeout=_CONNECT_SECONDS)
    refused = (*connection.connection_errors, *connection.channel_errors, KombuError, OSError)
    try:
        with connection:
            connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
            yield connection
    except refused as error:
        raise BrokerUnavailable(f"{type(error).__name__}: {error}"[:200]) from None


def queue_readers(
    url: str, queues: Collection[str], external: Collection[str]
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, int]]:
    """Return queue -> names of the workers that read it, and queue -> how many messages wait.

    Workers without remote control do not answer. Raise BrokerUnavailable.
    """
    app = Celery("doctor", broker=url, set_as_current=False)
    readers: dict[str, tuple[str, ...]] = {}
    with _connected(app) as connection:
        waiting = {queue: waiting_in(connection, queue) for queue in (*queues, *external)}
        for exchange in (_OURS, _THEIRS) if external else (_OURS,):
            for queue, names in _answers(app, exchange).items():
                readers[queue] = (*readers.get(queue, ()), *names)
    return readers, waiting


def waiting_in(connection: Any, queue: str) -> int:
    """Return how many messages wait in a queue."""
    channel = connection.channel()
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0  # not there: an empty one on Redis, or before the first start
    finally:
        channel.close()


def _answers(app: Any, exchange: str) -> dict[str, tuple[str, ...]]:
    app.conf.control_exchange = exchange
    app.__dict__.pop("control", None)
    replies = app.control.inspect(timeout=_ANSWER_SECONDS).active_queues() or {}
    readers: dict[str, tuple[str, ...]] = {}
    for worker, queues in sorted(replies.items()):
        for queue in queues:
            readers[queue["name"]] = (*readers.get(queue["name"], ()), worker)
    return readers
