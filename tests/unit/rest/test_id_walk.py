"""Walks through lists whose pages are too large in places: each row is read once, or named; every walk ends."""

from __future__ import annotations

import pytest

from b24offline.rest.id_walk import PAGE, IdWalk

LIMIT = 100
"""Largest sum of row sizes in one answer."""


def walked(sizes: dict[int, int], most: int = 200) -> tuple[list[int], list[int], int]:
    """Walk through rows of these sizes. Return ids read, ids that alone are too large, and the number of calls."""
    walk, read, alone = IdWalk(0), list[int](), list[int]()
    for calls in range(1, most):
        above, upto = walk.rules[">ID"], walk.rules.get("<=ID", 1 << 62)
        page = [record_id for record_id in sorted(sizes) if above < record_id <= upto][:PAGE]
        if sum(sizes[record_id] for record_id in page) > LIMIT:
            if (found := walk.halve()) is not None:
                alone.append(found)
            continue
        read += page
        if not walk.advance(page, len(page)):
            return read, alone, calls
    raise AssertionError("the walk does not end")


ROWS = {
    "small": dict.fromkeys(range(1, 121), 1),
    "pages too large": dict.fromkeys(range(1, 121), 10),
    "far away": dict.fromkeys(range(10_000_000, 10_000_120), 10),
    "one alone": {**dict.fromkeys(range(1, 121), 1), 60: LIMIT + 1},
    "the last alone": {**dict.fromkeys(range(1, 121), 1), 120: LIMIT + 1},
    "the first alone, far away": {10_000_000: LIMIT + 1, 10_000_001: 1, 20_000_000: 1},
    "all alone": dict.fromkeys(range(500, 515), LIMIT + 1),
    "none": {},
}


@pytest.mark.parametrize("name", ROWS)
def test_each_row_is_read_once_or_named(name: str) -> None:
    sizes = ROWS[name]
    read, alone, calls = walked(sizes)
    assert alone == [record_id for record_id, size in sizes.items() if size > LIMIT]
    assert read == [record_id for record_id in sizes if record_id not in alone]
    assert calls < 90


def test_pages_that_do_not_advance_are_noticed() -> None:
    walk = IdWalk(7)
    with pytest.raises(ValueError, match="do not advance"):
        walk.advance([3] * PAGE, PAGE)
