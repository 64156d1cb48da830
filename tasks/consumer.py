"""What a worker reads from the broker: messages that are not ours are refused and counted, and end no worker."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import Consumer
from kombu import compression
from kombu.utils import json

from b24offline.tasks.messages import Refused, check_headers, checked_body
from b24offline.tasks.process import current_runtime

log = logging.getLogger(__name__)

# Nothing of ours is compressed, and a few bytes could fill the memory: without decoders such a message is refused.
vars(compression)["_decoders"].clear()


def count_refused(why: str) -> None:
    """Count a message that was refused. Log it, at most one a minute."""
    if current_runtime().note_refused_message():
        log.warning("message of the broker refused", extra={"why": why})


def _check_arguments(task: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Raise `Refused` unless the task takes these arguments; steps get theirs from the ledger, too."""
    if task.typing:
        try:
            task.__header__(*args, **kwargs)
        except TypeError:
            raise Refused("its arguments are not those of its task") from None


class CarefulConsumer(Consumer):
    """Celery's consumer, which looks at each message before it is run.

    It does not listen to other workers either: what they say comes from whoever can write to the broker.
    """

    strategies: dict[str, Any]  # these three: the stubs lack them
    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def __init__(self, on_task_request: Any, **options: Any) -> None:
        alone = {"without_gossip": True, "without_mingle": True}
        options["worker_options"] = {**(options.get("worker_options") or {}), **alone}
        super().__init__(on_task_request, **options)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], Any]:
        """Return what takes each message."""
        handle = super().create_task_handler(*args, **options)
        of_the_connection: tuple[type[Exception], ...] = (*self.connection_errors, *self.channel_errors, MemoryError)

        def careful(message: Any) -> Any:
            try:
                check_headers(message.headers, self.strategies)
                body = checked_body(message.headers, message.payload, self.app.amqp.queues)
                _check_arguments(self.app.tasks[message.headers["task"]], *message.payload[:2])
                if body is not None:
                    message.body, message._decoded_cache = json.dumps(body), None
                return handle(message)
            except of_the_connection:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the next message must be read
                return self._refuse(message, error)

        return careful

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Refuse a message that cannot be read."""
        self._refuse(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse a message whose headers do not fit."""
        del body
        self._refuse(message, exc)

    def _refuse(self, message: Any, error: Exception) -> None:
        count_refused(str(error) if isinstance(error, Refused) else type(error).__name__)
        if not message.acknowledged:
            message.reject_log_error(log, self.connection_errors)
