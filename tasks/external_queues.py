"""How queues of other applications are addressed: by the broker's default exchange, which knows every queue by name."""

from __future__ import annotations

from typing import Any, cast

from celery.app import amqp


class Queues(cast("Any", amqp).Queues):  # type: ignore[misc] # the stubs lack it
    """Celery's queues, of which those that are not ours to declare keep the default exchange.

    Celery would give them our own exchange. A message to one that was not there when our worker started, and so was
    never bound to that, would be dropped by RabbitMQ without a word.
    """

    def _add(self, queue: Any) -> Any:
        if not queue.no_declare:
            return super()._add(queue)
        self[queue.name] = queue
        return queue


class QueueAddresses(amqp.AMQP):
    """Celery's messages with these queues."""

    queues_cls = Queues
