"""Which records a call means, and in which sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from b24offline.emulator.state.record import Record

FIELD_VALUES: Final[dict[str, Callable[[Record], Any]]] = {
    "ID": lambda record: record.id,
    "TIMESTAMP_X": lambda record: record.stamp,
    "EVENT_NAME": lambda record: record.event_name,
    "MESSAGE_ID": lambda record: record.message_id,
    "PROCESS_ID": lambda record: record.process_id,
    "ERROR": lambda record: int(record.nacked),
}

Condition = Callable[["Record"], bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that must all hold, an order of (field, descending) pairs, at most `limit` records."""

    conditions: tuple[Condition, ...] = ()
    order: tuple[tuple[str, bool], ...] = (("TIMESTAMP_X", False),)
    limit: int | None = None

    def matches(self, record: Record) -> bool:
        """Return whether all conditions hold."""
        return all(condition(record) for condition in self.conditions)

    def pick(self, records: Sequence[Record]) -> list[Record]:
        """Return the matching records in order, cut at the limit; ties are resolved by ascending record id."""
        found = sorted((record for record in records if self.matches(record)), key=FIELD_VALUES["ID"])
        for field, descending in reversed(self.order):
            found.sort(key=FIELD_VALUES[field], reverse=descending)
        return found if self.limit is None else found[: self.limit]
