"""Whether messages wait in the queues of steps."""

from __future__ import annotations

from kombu.exceptions import KombuError, OperationalError

from b24offline import contract
from b24offline.settings import config
from b24offline.tasks.broker_readers import waiting_in
from b24offline.tasks.celery_app import app


def no_step_waits() -> bool:
    """Return whether no message waits in any queue of steps; False also when the broker does not tell.

    What a worker has taken and not begun is not counted: one message for each of its processes.
    """
    names = {contract.QUEUE_EVENTS, *(lane.queue for lane in config.all_lanes.values())}
    with app.connection_for_read() as connection:
        away: tuple[type[BaseException], ...] = (KombuError, OperationalError, OSError, *connection.connection_errors)
        try:
            connection.connect()  # tries once; asking for a channel would retry until the broker is there
            return not any(waiting_in(connection, name) for name in names)
        except away:
            return False
