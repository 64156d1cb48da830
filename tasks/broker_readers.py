"""Who reads which queue of the broker, and how much waits in it; for the doctor, from outside of any worker."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from b24offline.errors import BrokerUnavailable
from b24offline.tasks.celery_app import app as ours

_ANSWER_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 5
_OURS, _THEIRS = "b24offline", "celery"
"""Names under which our workers, and those of other Celery stacks, listen to remote control."""


def queue_readers(
    url: str, queues: Collection[str], external: Collection[str]
) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, int]]:
    """Return queue -> names of the workers that read it, and queue -> how many messages wait.

    Workers without remote control do not answer. Raise BrokerUnavailable.
    """
    app = Celery("doctor", broker=url, set_as_current=False)
    app.conf.update(
        broker_use_ssl=ours.conf.broker_use_ssl, broker_transport_options=ours.conf.broker_transport_options
    )
    try:
        with app.connection_for_read(connect_timeout=_CONNECT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
            waiting = {queue: waiting_in(connection, queue) for queue in (*queues, *external)}
        readers: dict[str, tuple[str, ...]] = {}
        for exchange in (_OURS, _THEIRS) if external else (_OURS,):
            for queue, names in _answers(app, exchange).items():
                readers[queue] = (*readers.get(queue, ()), *names)
    except (KombuError, OperationalError, OSError) as error:
        raise BrokerUnavailable(f"{type(error).__name__}: {error}"[:200]) from None
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
