"""A start on queues of another type is refused with a sentence, where Celery would show a traceback of AMQP."""

from __future__ import annotations

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
    """Declare our queues. Ends the process when the broker has them as another type, not when the broker is away."""
    if not config.broker_url.startswith(AMQP):
        return
    try:
        with app.connection_for_write(connect_timeout=CONNECT_SECONDS) as connection:
            connection.connect()  # once; asked for a channel at once, it would try until the broker is there
            for queue in app.amqp.queues.values():
                if not queue.no_declare:
                    queue(connection.default_channel).declare()
    except PreconditionFailed as error:
        raise SystemExit(
            f"b24offline cannot start.\nThe broker has a queue of ours as another type: {error.reply_text}\n"
            f"B24_RABBITMQ_QUEUES is {config.rabbitmq_queues}. Set it to what the queues are; or stop all workers and "
            "beat, delete the queues that begin with b24offline. and start again: what was in them is sent again."
        ) from None
    except (OSError, AMQPError):
        pass  # Celery waits for a broker that is away, and says so
