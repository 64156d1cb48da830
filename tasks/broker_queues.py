"""Refuse to start where the broker has our queues as another type; Celery would show a traceback of AMQP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from amqp.exceptions import AMQPError, PreconditionFailed
from celery import signals

from b24offline.config import AMQP
from b24offline.settings import config
from b24offline.tasks.celery_app import app

CONNECT_SECONDS: Final = 3.0


@signals.celeryd_after_setup.connect
@signals.beat_init.connect
def refuse_other_types(**_: Any) -> None:
    """Declare our queues. End the process where the broker has one as another type, not where it cannot be reached."""
    if not config.broker_url.startswith(AMQP):
        return
    try:
        with app.connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
            connection.connect()  # tries once; asking for a channel would retry until the broker is there
            queues: Iterable[Any] = app.amqp.queues.values()  # the stubs lack `no_declare`
            for queue in queues:
                if not queue.no_declare:
                    queue(connection.default_channel).declare()
    except PreconditionFailed as error:
        raise SystemExit(
            f"b24offline cannot start.\nThe broker has one of our queues with another type: {error.reply_text}\n"
            f"B24_RABBITMQ_QUEUES is {config.rabbitmq_queues}. Set it to the type of the queues; or stop beat and all "
            "workers, delete the queues that begin with b24offline. and start again: their messages are sent again."
        ) from None
    except (OSError, AMQPError):
        pass  # Celery waits for a broker that cannot be reached, and logs it
