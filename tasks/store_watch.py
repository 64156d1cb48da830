"""Ends a worker whose store was upgraded so that this version can use it no more, before it takes further messages."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from celery import signals
from celery.platforms import EX_FAILURE
from celery.worker import state

from b24offline.errors import StoreError, StoreUnavailable
from b24offline.runtime import Runtime
from b24offline.settings import config

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_ended: Final = threading.Event()


def watch(look: Callable[[], object], seconds: float, ended: threading.Event) -> str | None:
    """Look again and again until the store refuses this version. Return why; None when ``ended`` was set before."""
    while not ended.wait(seconds):
        try:
            look()
        except StoreUnavailable:
            continue  # it may come back
        except StoreError as error:
            return str(error)
    return None


def _watch() -> None:
    runtime = Runtime(config)  # not the one of the process: its connections must not cross a fork

    def look() -> None:
        try:
            runtime.store.create_schema()
        finally:
            runtime.close()

    if why := watch(look, config.timers.sweep_seconds, _ended):
        log.critical("worker ends", extra={"why": why})
        vars(state)["should_stop"] = EX_FAILURE  # what runs may end; what waits goes back to the broker


@signals.worker_ready.connect
def _begin(**_: Any) -> None:
    threading.Thread(target=_watch, name="store-watch", daemon=True).start()


@signals.worker_shutting_down.connect
def _end(**_: Any) -> None:
    _ended.set()
