"""Append-only logs of one portal, numbered by one counter, so that their entries can be put in one order."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

Entry = dict[str, Any]


class Sequence:
    """The counter shared by all logs of a portal; the first number is 1."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count(1)
        self.last = 0

    def take(self) -> int:
        """Return the next number."""
        self.last = next(self._numbers)
        return self.last


class Journal:
    """Entries with `seq`, `time` (portal clock) and `wall` (this machine's clock), both epoch seconds.

    With `keep` only the newest entries stay.
    """

    def __init__(self, sequence: Sequence, keep: int | None = None) -> None:
        self._sequence = sequence
        self._entries: list[Entry] | deque[Entry] = [] if keep is None else deque(maxlen=keep)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, now: float, **fields: Any) -> int:
        """Append an entry and return its number."""
        seq = self._sequence.take()
        self._entries.append({"seq": seq, "time": round(now, 6), "wall": round(time.time(), 6), **fields})
        return seq

    def page(self, after: int, limit: int) -> list[Entry]:
        """Return up to `limit` entries with a number greater than `after`, oldest first."""
        if isinstance(self._entries, list):
            begin = bisect_right(self._entries, after, key=lambda entry: int(entry["seq"]))
            return self._entries[begin : begin + limit]
        return list(islice((entry for entry in self._entries if entry["seq"] > after), limit))
