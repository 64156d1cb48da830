"""Which of several processes hang: one that is silent while another one is heard.

Each shows that it lives by touching a file, as `tasks.heartbeat` does. When all are silent their broker is away, and
none of them is broken. The caller counts the seconds: those in which it could have heard something.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEARD_SECONDS: Final = 10.0
"""A process whose last sign of life is younger than this is heard."""


class Heartbeat:
    """What is heard of one process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.begin()

    def begin(self) -> None:
        """Nothing has been heard yet: the process is a new one."""
        self._touched = self._last_touch()
        self.silent_seconds = math.inf
        self.missed_seconds = 0.0
        """For how long it was silent while others were heard."""

    @property
    def heard(self) -> bool:
        """Whether it has shown a moment ago that it lives."""
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
    for one in heartbeats:
        one.listen(seconds)
    for one in heartbeats:
        if one.silent_seconds and any(other.heard for other in heartbeats if other is not one):
            one.missed_seconds += seconds
