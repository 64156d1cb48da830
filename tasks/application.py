"""The Celery application class: what has to wait is kept by RabbitMQ itself where queues are quorum queues.

A quorum queue counts a waiting message against its consumer's prefetch: a few retries, and nothing else is read until
they are due. Celery hands such messages to the broker's delayed delivery, with three gaps that are closed here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping, MutableMapping
from datetime import datetime
from typing import Any, Final

from celery import Celery, signals
from celery.utils.time import maybe_make_aware
from kombu.transport.native_delayed_delivery import MAX_LEVEL, level_name

from b24offline.settings import config

_FIRST_DELAY: Final = level_name(MAX_LEVEL)
"""The exchange that messages are sent to when they have to wait."""
_DELAY: Final = re.compile(r"^(?:[01]\.)+(?=[^.])")


class Application(Celery):
    """Celery that delays messages of quorum queues by whole seconds, and to the queue that they came from."""

    def send_task(self, name: str, *args: Any, **options: Any) -> Any:
        """As Celery's; ``countdown`` and ``eta`` are prepared for the broker's delayed delivery."""
        if config.quorum_queues:
            options = delayed_by_broker(options, self.now(), self.amqp.queues)
        return super().send_task(name, *args, **options)


def delayed_by_broker(options: Mapping[str, Any], now: datetime, queues: Container[str]) -> dict[str, Any]:
    """Return the options of a message, so that the broker can delay it.

    Its wait is rounded up to whole seconds: Celery cuts off what is behind the point, and refuses a wait of 0. A retry
    names the exchange that it came through instead of its queue, and Celery would send it to the default one.

    Args:
        options: as `Task.apply_async` takes them; ``eta`` as a datetime or in ISO format.
        now: aware.
        queues: names of the queues that the application knows.
    """
    prepared = dict(options)
    wait, eta = prepared.pop("countdown", None), prepared.pop("eta", None)
    if eta is not None:
        moment = datetime.fromisoformat(eta) if isinstance(eta, str) else eta
        wait = (maybe_make_aware(moment) - now).total_seconds()
    if wait is None or wait <= 0:
        return prepared
    prepared["countdown"] = math.ceil(wait)
    queue = _DELAY.sub("", prepared.get("routing_key") or "")
    if not prepared.get("queue") and queue in queues:
        prepared = {key: value for key, value in prepared.items() if key not in {"exchange", "routing_key"}}
        prepared["queue"] = queue
    return prepared


@signals.before_task_publish.connect
def _judge_once(headers: MutableMapping[str, Any], exchange: Any = None, **_: Any) -> None:
    # When it arrives its time has come. A worker whose clock is slow would hold it, and a place with it, once more.
    if getattr(exchange, "name", exchange) == _FIRST_DELAY:
        headers["eta"] = None
