"""Which dead letters a command is about: by number, or by filters; thousands are read page by page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b24offline.dead_letters import DeadLetter
    from b24offline.store import Store

PAGE: Final = 500
"""Letters read at once."""
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True)
class Selection:
    """What letters must be like; what is empty matches all.

    Attributes:
        ids: their numbers.
        portal: name of the portal.
        event: event name, in any case.
        reason: how their reason begins, an error's class.
        older_than_seconds: least age since they were parked.
    """

    ids: tuple[int, ...] = ()
    portal: str = ""
    event: str = ""
    reason: str = ""
    older_than_seconds: float = 0.0

    @property
    def empty(self) -> bool:
        """Whether it matches every letter."""
        return not (self.ids or self.portal or self.event or self.reason or self.older_than_seconds)

    def matches(self, letter: DeadLetter, now: datetime) -> bool:
        """Whether a letter is meant, at ``now``. Pure."""
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.portal or letter.portal == self.portal)
            and (not self.event or letter.event_name == self.event.upper())
            and letter.reason.startswith(self.reason)
            and (now - letter.created_at).total_seconds() >= self.older_than_seconds
        )


def selected(store: Store, selection: Selection, *, ended: bool = False) -> Iterator[DeadLetter]:
    """The open (or ended) letters that a selection means, by number."""
    now, last = datetime.now(UTC), 0
    while page := store.dead_letters(selection.portal or None, ended=ended, limit=PAGE, after_id=last):
        last = page[-1].id
        yield from (letter for letter in page if selection.matches(letter, now))


def parsed_span(text: str) -> float:
    """Seconds of a span like ``90s``, ``15m``, ``12h``, ``7d``, ``2w``. Raises ValueError for anything else."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is no span of time: use e.g. 90s, 15m, 12h, 7d or 2w")
    return float(match[1]) * _UNIT_SECONDS[match[2]]
