"""When each portal is polled next: one sorted set for all portals, so that one beat entry serves one or ten thousand.

A full batch polls again at once, a partial one at the lower bound, an empty one backs off to the ceiling. A portal is
due when one of its lanes is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import Redis

_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, portal in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), portal) end
return due
"""
_NEXT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'XX', now + tonumber(ARGV[2]), ARGV[1])
return 1
"""
_NEXT_OF_LANE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], (now + tonumber(ARGV[2])) .. ' ' .. ARGV[2])
return 1
"""


def next_interval_seconds(previous: float, received: int, limit: int, minimum: float, maximum: float) -> float:
    """Return seconds until the next poll. ``received`` of at most ``limit`` records; ``previous`` interval in
    seconds."""
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
        self._next = redis.register_script(_NEXT)

    def seed(self, portals: Iterable[str]) -> None:
        """Add portals that are missing, due at once; drops those that are not named."""
        wanted = set(portals)
        known = {str(name) for name in self._redis.zrange(self._key, 0, -1)}
        if wanted - known:
            self._redis.zadd(self._key, dict.fromkeys(wanted - known, 0), nx=True)
        if known - wanted:
            self._redis.zrem(self._key, *(known - wanted))

    def take_due(self, ceiling_seconds: float, limit: int = 500) -> list[str]:
        """Return the portals that are due, each pushed back by the ceiling, so that a poll that dies is not the last
        one."""
        reply = self._take(keys=[self._key], args=[max(1, round(ceiling_seconds * 1000)), limit])
        return [str(name) for name in reply]

    def set_next(self, portal: str, seconds: float) -> None:
        """Say when a portal is due again."""
        self._next(keys=[self._key], args=[portal, round(seconds * 1000)])


class LaneSchedule:
    """When each lane of one portal is due. A lane that was never polled is due now."""

    def __init__(self, redis: Redis, stem: str) -> None:
        self._redis = redis
        self._key = keys.lanes(stem)
        self._next = redis.register_script(_NEXT_OF_LANE)

    def waited_ms(self, lanes: Iterable[str]) -> dict[str, int]:
        """Lane -> how long it has been due, in milliseconds; negative while it is not."""
        names = list(lanes)
        seconds, micros = self._redis.time()
        now = int(seconds) * 1000 + int(micros) // 1000
        reply = self._redis.hmget(self._key, names)
        return {
            name: now - int(str(value).split()[0]) if value else 0 for name, value in zip(names, reply, strict=True)
        }

    def interval_seconds(self, lane: str) -> float:
        """Return the interval that was set last; 0.0 when none was."""
        value = self._redis.hget(self._key, lane)
        return int(str(value).split()[1]) / 1000 if value else 0.0

    def set_next(self, lane: str, seconds: float) -> None:
        """Say when a lane is due again."""
        self._next(keys=[self._key], args=[lane, round(seconds * 1000)])
