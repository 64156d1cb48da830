"""Which portals' ledgers hold something that can be overdue: asked for hundreds of portals in one round trip.

Of an application that is installed on thousands most portals are idle at any moment; a sweep need not look at those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

_AT_ONCE: Final = 500


def with_open_work(redis: Redis, key_prefix: str, portals: Sequence[str]) -> set[str]:
    """Return those of the portals that have an open batch or a due time. Of the others `Ledger.take_overdue` finds
    nothing."""
    found: set[str] = set()
    for start in range(0, len(portals), _AT_ONCE):
        page = portals[start : start + _AT_ONCE]
        with redis.pipeline(transaction=False) as pipe:
            for portal in page:
                stem = keys.stem(key_prefix, portal)
                pipe.exists(keys.batches(stem), keys.due(stem))
            found |= {portal for portal, exist in zip(page, pipe.execute(), strict=True) if exist}
    return found
