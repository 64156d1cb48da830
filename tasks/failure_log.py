"""What is said of an error of a user's code, in log and dead letter: its place, and what may be shown of it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING

from b24offline.errors import B24OfflineError
from b24offline.tasks.process import current_runtime

if TYPE_CHECKING:
    from b24offline.events import Event

log = logging.getLogger(__name__)


def place_of(event: Event, pipeline: str) -> dict[str, object]:
    """Return the fields of a log line that say which run it is about."""
    object_name = str(event.object or "")
    return {"portal": event.portal, "event": event.name, "object": object_name, "pipeline": pipeline}


def log_error(level: int, message: str, error: Exception, facts: Mapping[str, object]) -> None:
    """Log an error of a user's code with what places it; its own words only where they may be shown."""
    everything = current_runtime().config.show_errors == "text"
    words = {"why": str(error)} if everything or isinstance(error, B24OfflineError) else {}
    log.log(level, message, exc_info=error if everything else None, extra={**facts, **words})


def words_of(error: Exception) -> str:
    """Return what a dead letter may say of an error: our own words or those of a `Permanent`; of others none, unless
    everything is to be shown.
    """
    if current_runtime().config.show_errors == "text":
        return "".join(traceback.format_exception(error))
    return str(error) if isinstance(error, B24OfflineError) else ""
