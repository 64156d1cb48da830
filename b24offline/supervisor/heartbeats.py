"""Which of several processes hang: one whose heartbeat file stays old while that of another is touched.

`tasks.heartbeat` touches the files. When all are silent, the broker cannot be reached, and no process hangs. The caller
passes the seconds in which it was able to look.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEARD_SECONDS: Final = 10.0
"""A process is heard while its last heartbeat is younger than this."""


class Heartbeat:
    """The heartbeat of one process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.begin()

    def begin(self) -> None:
        """Begin anew, for a process that was just started."""
        self._touched = self._last_touch()
        self.silent_seconds = math.inf
        self.missed_seconds = 0.0
        """For how long it was silent while others were heard."""

    @property
    def heard(self) -> bool:
        """Whether the last heartbeat is recent."""
        return self.silent_seconds < HEARD_SECONDS

    def listen(self, seconds: float) -> None:
        """Look at the file ``seconds`` after the last look."""
        touched = self._last_touch()
        if touched == self._touched:
            self.silent_seconds += seconds
        else:
            self._touched = touched
            self.silent_seconds = self.missed_seconds = 0.0

    def _last_touch(self) -> int:
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return 0


def listen(heartbeats: Sequence[Heartbeat], seconds: float) -> None:
    """Look at all ``seconds`` after the last look; a silence counts only while another one is heard."""
    for heartbeat in heartbeats:
        heartbeat.listen(seconds)
    for heartbeat in heartbeats:
        if heartbeat.silent_seconds and any(other.heard for other in heartbeats if other is not heartbeat):
            heartbeat.missed_seconds += seconds
