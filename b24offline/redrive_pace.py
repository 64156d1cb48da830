"""How fast marked records are taken up again, and how often all marked or all reserved records are listed. Pure.

After a bad deployment there may be thousands. They must not wait for days, and they must not take the portal's pace
away from new events: neither by running, nor by being listed over and over.
"""

from __future__ import annotations

from typing import Final

AT_ONCE: Final = 50
"""Marked records taken in one turn: a page of their list, and as many objects as one request reads."""
REQUESTS_EACH: Final = 2
"""What one costs: it is reserved, and it is acknowledged."""
SHARE: Final = 0.5
"""The part of the portal's pace that they may take while there are many."""
LISTED_FREELY: Final = 500
"""So many are listed in ten requests, at every first look; more than that are listed as much less often."""


def turn_seconds(first_wait_seconds: float, requests_per_second: float) -> float:
    """Seconds between two turns: a third of the first wait of a marked record, or sooner where the pace allows it."""
    return min(first_wait_seconds / 3, AT_ONCE * REQUESTS_EACH / (requests_per_second * SHARE))


def listing_seconds(wait_seconds: float, known: int) -> float:
    """Seconds between two looks at all records of a kind, of which ``known`` were seen by the last one.

    ``wait_seconds``: what has to pass between the first sight of a record and what is done about it. Looks at marked
    records between those end as soon as enough of them are due.
    """
    return wait_seconds / 3 * max(1.0, known / LISTED_FREELY)
