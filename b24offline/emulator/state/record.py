"""One element of the offline queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

FREE: Final = ""


@dataclass(slots=True)
class Record:
    """One element of the queue. `stamp` is in whole epoch seconds, `subject` is (entity, object id)."""

    id: int
    connector: str
    event_name: str
    data: Any
    additional: Any
    message_id: str
    stamp: int
    subject: tuple[str, str]
    process_id: str = FREE
    nacked: bool = False
    reserved_at: float = 0.0
