"""Shows that worker and beat are alive by the age of a file, so that a health check costs no remote control.

A worker touches it with each of Celery's own heartbeats, every 2 s while its broker connection stands; beat with each
tick that the broker has taken. Both stop when the process hangs or the broker is away.
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
    """Make the file's age zero. False: there is none to touch, or it cannot be (logged once a file)."""
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
