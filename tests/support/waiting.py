"""Waiting for a condition. A deadline only says when to give up, so it is long: a busy machine is no failure."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

GIVE_UP_SECONDS = 240.0


class NotInTime(AssertionError):
    """A condition did not hold before the deadline."""


def wait_until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = GIVE_UP_SECONDS,
    *,
    pause_seconds: float = 0.1,
) -> Any:
    """Return the first true answer of a condition. Raise `NotInTime` with ``what`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds:g} s: {what}")
        time.sleep(pause_seconds)
    return answer


def comes(true: Callable[[], Any], seconds: float) -> bool:
    """Wait for what may never happen."""
    with suppress(NotInTime):
        return bool(wait_until(true, "what only happens without the guard", max(0.0, seconds)))
    return False


def alive(pid: int) -> bool:
    """Return whether a process runs; one that waits for burial does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
