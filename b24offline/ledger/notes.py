"""What the last look at a portal found wrong, kept in the ledger until a later look finds nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from redis import Redis

    from b24offline.ledger.ledger import Ledger

UNREADABLE_TTL_SECONDS: Final = 3600
"""How long a count of unreadable records is kept without another look at the portal's list."""
MEMORY_SHARE: Final = 0.85
"""Part of the memory of the ledger's Redis above which nothing is reserved: acknowledging must still find room."""
OVERSIZED_TTL_SECONDS: Final = 3600
BROKER_TTL_SECONDS: Final = 30
"""How long a look at the broker holds where none follows, as when a broker without memory takes no tick."""
REFUSED_TTL_SECONDS: Final = 2 * 86_400
REFUSED_MESSAGES_TTL_SECONDS: Final = 86_400


def note_unreadable(redis: Redis, ledger: Ledger, count: int) -> None:
    """Store how many reserved records of a whole list cannot be read."""
    redis.set(keys.unreadable(ledger.stem), count, ex=UNREADABLE_TTL_SECONDS)


def note_refused(redis: Redis, ledger: Ledger, names: Collection[str]) -> None:
    """Store which events the portal refused to subscribe at the last look."""
    redis.set(keys.refused(ledger.stem), json.dumps(sorted(names)), ex=REFUSED_TTL_SECONDS)


def note_oversized(redis: Redis, ledger: Ledger, what: str) -> None:
    """Store what a portal sent that was larger than it may be; an hour after the last one it is over."""
    redis.set(keys.oversized(ledger.stem), what, ex=OVERSIZED_TTL_SECONDS)


def noted_oversized(redis: Redis, ledger: Ledger) -> str:
    """Return what a portal sent that was too large; "" when it did not lately."""
    return str(redis.get(keys.oversized(ledger.stem)) or "")


def memory_share(memory: Mapping[str, Any]) -> float:
    """Return which part of a Redis' memory is used, by its section ``memory`` of INFO; 0.0 where it has no bound."""
    most = int(memory.get("maxmemory", 0))
    return int(memory.get("used_memory", 0)) / most if most else 0.0


def note_refused_message(redis: Redis, key_prefix: str) -> None:
    """Count a message of the broker that was refused; the count ends a day after the last one."""
    with redis.pipeline(transaction=False) as pipe:
        pipe.incr(keys.refused_messages(key_prefix))
        pipe.expire(keys.refused_messages(key_prefix), REFUSED_MESSAGES_TTL_SECONDS)
        pipe.execute()


def noted_refused_messages(redis: Redis, key_prefix: str) -> int:
    """Return how many messages of the broker were refused lately."""
    return int(redis.get(keys.refused_messages(key_prefix)) or 0)


def note_broker(redis: Redis, key_prefix: str, *, full: str = "", unseen: str = "") -> None:
    """Store what a look at the broker found: why nothing may be polled, and why it does not tell; "" for neither."""
    with redis.pipeline() as pipe:
        for key, what in ((keys.broker_full(key_prefix), full), (keys.broker_unseen(key_prefix), unseen)):
            if what:
                pipe.set(key, what, ex=BROKER_TTL_SECONDS)
            else:
                pipe.delete(key)
        pipe.execute()


def noted_broker(redis: Redis, key_prefix: str) -> tuple[str, str]:
    """Return why nothing may be polled, and why the broker does not tell what waits in it; "" for neither."""
    full, unseen = redis.mget(keys.broker_full(key_prefix), keys.broker_unseen(key_prefix))
    return str(full or ""), str(unseen or "")
