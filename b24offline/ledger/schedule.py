"""Which portals are due: for a poll, by one sorted set for all of them; for a sweep, by what their ledgers hold.

After a full batch a portal is polled again at once, after a partial one at the lower bound, after an empty one it
backs off to the ceiling. A portal is due when one of its lanes is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.ledger.transitions import clock_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis

_PORTALS_AT_ONCE: Final = 500
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, portal in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), portal) end
return due
"""


def next_interval_seconds(previous: float, received: int, limit: int, minimum: float, maximum: float) -> float:
    """Return the seconds until the next poll after one that received so many of at most ``limit`` records."""
    if received >= limit:
        return 0.0
    if received > 0:
        return minimum
    return min(maximum, max(minimum, previous * 1.5))


class PollSchedule:
    """The due times of all portals of a deployment. Lost with the ledger, and seeded again by the next tick."""

    def __init__(self, redis: Redis, key_prefix: str) -> None:
        self._redis = redis
        self._key = keys.polls(key_prefix)
        self._take = redis.register_script(_TAKE)

    def seed(self, portals: Iterable[str]) -> None:
        """Add portals that are missing, due at once; drop those that are not named."""
        wanted = set(portals)
        known = {str(name) for name in self._redis.zrange(self._key, 0, -1)}
        if wanted - known:
            self._redis.zadd(self._key, dict.fromkeys(wanted - known, 0), nx=True)
        if known - wanted:
            self._redis.zrem(self._key, *(known - wanted))

    def take_due(self, ceiling_seconds: float, limit: int = 500) -> list[str]:
        """Return the portals that are due, each pushed back by the ceiling: if a poll dies, another follows."""
        reply = self._take(keys=[self._key], args=[max(1, round(ceiling_seconds * 1000)), limit])
        return [str(name) for name in reply]

    def set_next(self, portal: str, seconds: float) -> None:
        """Set when a portal is due again."""
        self._redis.zadd(self._key, {portal: clock_ms(self._redis) + round(seconds * 1000)}, xx=True)


class LaneSchedule:
    """When each lane of one portal is due. A lane that was never polled is due now."""

    def __init__(self, redis: Redis, stem: str) -> None:
        self._redis = redis
        self._key = keys.lanes(stem)

    def waited_ms(self, lanes: Iterable[str]) -> dict[str, int]:
        """Return lane -> for how many milliseconds it has been due; negative while it is not."""
        names = list(lanes)
        now = clock_ms(self._redis)
        reply = self._redis.hmget(self._key, names)
        return {
            name: now - int(str(value).split()[0]) if value else 0 for name, value in zip(names, reply, strict=True)
        }

    def interval_seconds(self, lane: str) -> float:
        """Return the interval that was set last; 0.0 when none was."""
        value = self._redis.hget(self._key, lane)
        return int(str(value).split()[1]) / 1000 if value else 0.0

    def set_next(self, lane: str, seconds: float) -> None:
        """Set when a lane is due again."""
        wait_ms = round(seconds * 1000)
        self._redis.hset(self._key, lane, f"{clock_ms(self._redis) + wait_ms} {wait_ms}")


def with_open_work(redis: Redis, key_prefix: str, portals: Sequence[str]) -> set[str]:
    """Return the portals that have an open batch or a due time: only there does a sweep find anything overdue.

    Of thousands of portals most are idle at any moment; hundreds are asked in one round trip.
    """
    found: set[str] = set()
    for start in range(0, len(portals), _PORTALS_AT_ONCE):
        page = portals[start : start + _PORTALS_AT_ONCE]
        with redis.pipeline(transaction=False) as pipe:
            for portal in page:
                stem = keys.stem(key_prefix, portal)
                pipe.exists(keys.batches(stem), keys.due(stem), keys.open_counts(stem))
            found |= {portal for portal, exist in zip(page, pipe.execute(), strict=True) if exist}
    return found
