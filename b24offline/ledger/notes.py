"""What the last look at a portal found wrong, kept in the ledger until a later look finds nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis import Redis

    from b24offline.ledger.ledger import Ledger

UNREADABLE_TTL_SECONDS: Final = 3600
"""How long a count of unreadable records stands without another look at the portal's list."""
REFUSED_TTL_SECONDS: Final = 2 * 86_400


def note_unreadable(redis: Redis, ledger: Ledger, count: int) -> None:
    """Store how many reserved records a whole list of them could not read; 0 deletes the note."""
    if count:
        redis.set(_unreadable(ledger), count, ex=UNREADABLE_TTL_SECONDS)
    else:
        redis.delete(_unreadable(ledger))


def note_refused(redis: Redis, ledger: Ledger, names: Collection[str]) -> None:
    """Store which events the portal refused to subscribe at the last look; no names delete the note."""
    if names:
        redis.set(_refused(ledger), json.dumps(sorted(names)), ex=REFUSED_TTL_SECONDS)
    else:
        redis.delete(_refused(ledger))


def noted_unreadable(redis: Redis, ledger: Ledger) -> int:
    """Return the number of unreadable reserved records."""
    return int(redis.get(_unreadable(ledger)) or 0)


def noted_refused(redis: Redis, ledger: Ledger) -> tuple[str, ...]:
    """Return the names of the events whose subscription was refused."""
    text = redis.get(_refused(ledger))
    return tuple(json.loads(text)) if text else ()


def _unreadable(ledger: Ledger) -> str:
    return keys.unreadable(ledger.stem)


def _refused(ledger: Ledger) -> str:
    return keys.refused(ledger.stem)
