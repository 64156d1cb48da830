"""Beat's scheduler: it goes on at once when the clock was set back, and sends nothing that waits in a queue already."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from celery.beat import PersistentScheduler
from kombu.exceptions import ChannelError

from b24offline.contract import QUEUE_POLL, TASK_SWEEP, TASK_TICK
from b24offline.settings import config
from b24offline.tasks.heartbeat import touch
from b24offline.tasks.process import current_runtime

CONNECT_SECONDS: Final = 3.0

log = logging.getLogger(__name__)


class SteadyScheduler(PersistentScheduler):
    """Celery's scheduler, for which an entry that last ran in the future counts as run now.

    Celery's own would send nothing until the clock is there again, even after a restart: the time is in its file.
    """

    schedule_filename: str

    def setup_schedule(self) -> None:
        """Open the schedule file, in a folder made for it. End the process with a sentence where it cannot be."""
        folder = Path(self.schedule_filename).resolve().parent
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SystemExit(
                f"b24offline cannot start.\nBeat cannot keep its schedule file in {folder}. "
                "Set B24_DATA_DIR to a folder that can be written to."
            )
        super().setup_schedule()
        for entry in self.schedule.values():
            if entry.task == TASK_TICK and not entry.total_run_count:
                # Celery's own would wait one interval before the first one; so long no portal would be served.
                entry.last_run_at = entry.default_now() - timedelta(seconds=config.tick_seconds)

    def tick(self, *args: Any, **options: Any) -> float:
        """Send one entry that is due. Return the seconds until the next."""
        ahead = [
            entry for entry in self.schedule.values() if entry.last_run_at and entry.last_run_at > entry.default_now()
        ]
        if ahead:
            log.warning("clock was set back, schedule adjusted")
            for entry in ahead:
                entry.last_run_at = entry.default_now()
            self._heap = None  # Celery builds it again from the entries
        return super().tick(*args, **options)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send an entry; a tick or sweep only when none waits, or they would pile up while no worker reads."""
        if entry.task not in {TASK_TICK, TASK_SWEEP} or self._begins(entry.task):
            super().apply_entry(entry, producer=producer)  # as Celery calls it: Sentry takes its place

    def apply_async(self, entry: Any, *args: Any, **options: Any) -> Any:
        """Send an entry. One that the broker does not take does not wait in its queue."""
        try:
            return super().apply_async(entry, *args, **options)
        except Exception:
            current_runtime().queued.forget(entry.task)
            raise

    def _begins(self, task: str) -> bool:
        try:
            if current_runtime().queued.begin_unless_waiting(task, self._count_waiting):
                return True
        except Exception as error:  # noqa: BLE001 - whatever the broker's library raises: the next entry is tried
            log.warning("the broker does not tell what waits", extra={"why": type(error).__name__})
            return False
        touch(config.heartbeat_file)
        return False

    def _count_waiting(self) -> int:
        """Return how many messages are in the queue of polls; a Redis has no queue that is empty."""
        queue: Any = self.app.amqp.queues[QUEUE_POLL]
        with self.app.connection_for_read(connect_timeout=CONNECT_SECONDS) as connection:
            connection.connect()  # tries once; asking for a channel would retry until the broker is there
            try:
                return int(queue(connection.default_channel).queue_declare(passive=True).message_count)
            except ChannelError:
                return 0
