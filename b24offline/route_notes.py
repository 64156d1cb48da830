"""Which routes the workers of a deployment have, as each of them notes it.

A worker acknowledges an event that it has no route for. So while workers of two versions live, what only one of them
has a route for must not be subscribed yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.routing import routed_as

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis import Redis

NOTE_SECONDS: Final = 400.0
"""How long a note stands, unscaled. Longer than a step may run (360 s): a worker all of whose processes run steps
makes none meanwhile, and polls afterwards."""


def note_routes(redis: Redis, key_prefix: str, events: Iterable[str], seconds: float) -> None:
    """Notes that a process which has routes for these events is alive; forgets notes older than so many seconds."""
    key, now = f"{key_prefix}:routes", _now_ms(redis)
    with redis.pipeline(transaction=False) as pipe:
        pipe.zadd(key, {",".join(sorted(events)): now})
        pipe.zremrangebyscore(key, "-inf", now - seconds * 1000)
        pipe.pexpire(key, max(1, round(seconds * 1000)))
        pipe.execute()


def forget_routes(redis: Redis, key_prefix: str) -> None:
    """Forgets all notes: for whoever knows that no worker of before is left."""
    redis.delete(f"{key_prefix}:routes")


def not_everywhere(redis: Redis, key_prefix: str, events: Collection[str], seconds: float) -> set[str]:
    """Those of the events that a worker who made a note within so many seconds has no route for."""
    notes = redis.zrangebyscore(f"{key_prefix}:routes", _now_ms(redis) - seconds * 1000, "+inf")
    known = [set(str(note).split(",")) for note in notes]
    return {event for event in events for routed in known if routed.isdisjoint(routed_as(event))}


def _now_ms(redis: Redis) -> int:
    seconds, micros = redis.time()
    return int(seconds) * 1000 + int(micros) // 1000
