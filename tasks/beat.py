"""Beat's scheduler, which goes on at once when the clock was set back."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler

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
