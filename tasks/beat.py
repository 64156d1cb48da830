"""Beat's scheduler, which does not wait for the clock when that was set back."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler

log = logging.getLogger(__name__)


class SteadyScheduler(PersistentScheduler):
    """Celery's, but an entry that ran in what is now the future counts as run now.

    Celery would send nothing until the clock is there again, restarted or not: the moment is in the schedule file.
    """

    def setup_schedule(self) -> None:
        """As Celery's. Ends the process with a sentence where its file cannot be kept."""
        folder = Path(self.schedule_filename).resolve().parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SystemExit(
                f"b24offline cannot start.\nBeat cannot keep its schedule file in {folder}. "
                "Set B24_DATA_DIR to a folder that can be written to."
            )
        super().setup_schedule()

    def tick(self, *args: Any, **options: Any) -> float:
        """As Celery's: sends one entry that is due, returns the seconds until the next."""
        ahead = [entry for entry in self.schedule.values() if entry.last_run_at > entry.default_now()]
        if ahead:
            log.warning("clock was set back, the schedule follows it")
            for entry in ahead:
                entry.last_run_at = entry.default_now()
            self._heap = None  # made anew from the entries
        return super().tick(*args, **options)
