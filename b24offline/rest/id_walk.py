"""A walk through rows in the order of their ids, page by page, around rows that are too large to be read. Pure.

A page has always 50 rows, and no field can be left out. So where one is too large, the range of ids that is asked for
is halved until the rows are read, or a single id is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE: Final = 50
"""Rows of one page."""
_FARTHEST: Final = 1 << 40
"""No two ids that follow each other are so far apart."""


class IdWalk:
    """Where a walk is; it begins above the id ``after``."""

    def __init__(self, after: int) -> None:
        self.last = after
        """The id above which the next page begins."""
        self._width: int | None = None
        """How many ids are asked for; None: all above."""
        self._large_upto = after
        """All rows up to this id are too large for one page."""

    @property
    def rules(self) -> dict[str, int]:
        """The filter of the next page."""
        upto = {} if self._width is None else {"<=ID": self.last + self._width}
        return {">ID": self.last, **upto}

    def halve(self) -> int | None:
        """Narrow the range after a page that was too large. Return the id of a row that alone is, and step over it."""
        if self._width is None:
            self._width = PAGE
            return None
        if self._width > 1:
            self._large_upto = self.last + self._width
            self._width //= 2
            return None
        self.last += 1
        return self.last

    def advance(self, ids: Sequence[int], rows: int) -> bool:
        """Step over a page that was read. Return whether there may be more; ValueError when it does not advance."""
        if self._width is None:
            if rows < PAGE:
                return False
            self._step_to(ids)
        elif rows >= PAGE:
            self._step_to(ids)
            self._width = None
        else:
            self.last += self._width
            self._width = self._next_width(self._width, rows)
        return True

    def _next_width(self, width: int, rows: int) -> int | None:
        left = self._large_upto - self.last
        if left > 0 and not rows:
            return max(1, left // 2)
        # Ids may lie far apart; where rows were read, the next too large ones may be just above.
        grown = width * (2 if rows else 16)
        return None if grown > (PAGE if rows else _FARTHEST) else grown

    def _step_to(self, ids: Sequence[int]) -> None:
        if not ids or max(ids) <= self.last:
            raise ValueError("its pages do not advance by ID")
        self.last = max(ids)
