"""Heartbeat files: their age shows whether worker and beat are alive, without Celery's remote control.

A worker touches its file with each of Celery's heartbeats, every 2 s while it is connected to the broker; beat with
each tick that the broker has accepted. Both stop when the process hangs or the broker cannot be reached.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

from celery import signals

from b24offline.contract import TASK_TICK
from b24offline.settings import config

log = logging.getLogger(__name__)

_refused: Final[set[Path]] = set()


def touch(path: Path | None) -> bool:
    """Touch the file. Return False without a file, or where it cannot be written, which is logged once a file."""
    if path is None:
        return False
    try:
        path.touch()
    except OSError as error:
        if path not in _refused:
            _refused.add(path)
            log.error("heartbeat file cannot be written", extra={"path": str(path), "why": error.strerror})  # noqa: TRY400
        return False
    return True


@signals.heartbeat_sent.connect
def _worker_lives(**_: Any) -> None:
    touch(config.heartbeat_file)


@signals.after_task_publish.connect(sender=TASK_TICK)
def _beat_lives(**_: Any) -> None:
    touch(config.heartbeat_file)
