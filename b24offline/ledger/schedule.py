"""Which portals are due for a poll, by one sorted set for all of them.

After a full batch a portal is polled again at once, after a partial one at the lower bound, after an empty one it
backs off to the ceiling. A portal is due when one of its lanes is. A signal of the portal makes all its lanes due.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.ledger.transitions import clock_ms, milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis import Redis

_NOW: Final = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
_TAKE: Final = f"""{_NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))
for _, portal in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[1]), portal) end
return due
"""
_SET: Final = f"""{_NOW}
local arguments = {{unpack(ARGV, 3)}}
table.insert(arguments, now + ARGV[2])
table.insert(arguments, ARGV[1])
return redis.call('ZADD', KEYS[1], unpack(arguments))
"""
_SET_LANE: Final = f"""{_NOW}
local due, heard = now + ARGV[2], redis.call('HGET', KEYS[2], 'heard')
if heard and tonumber(heard) >= tonumber(ARGV[3]) then due = math.min(due, now + ARGV[4]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %d %d', due, ARGV[2], now))
"""
"""Polled -> due, sooner where a signal came while the poll was under way: it may not have seen what was signalled."""
_WAKE: Final = f"""{_NOW}
redis.call('HSET', KEYS[2], 'heard', now)
local first
for place = 1, #ARGV, 2 do
  local due, polled = string.match(redis.call('HGET', KEYS[1], ARGV[place]) or '', '^(%d+) %d+ (%d+)$')
  local at = now
  if due then
    at = math.min(tonumber(due), math.max(now, polled + ARGV[place + 1]))
    redis.call('HSET', KEYS[1], ARGV[place], string.format('%d %d %d', at, ARGV[place + 1], polled))
  end
  first = math.min(first or at, at)
end
return math.max(0, first - now)
"""
"""Waiting -> due, each lane as soon as its last poll is old enough; notes the signal. Its intervals grow anew: what was
signalled may be seen a moment later only."""
_RESUME: Final = f"""{_NOW}
local resumed = 0
for _, lane in ipairs(ARGV) do
  local interval, polled = string.match(redis.call('HGET', KEYS[1], lane) or '', '^%d+ (%d+) (%d+)$')
  if interval and redis.call('HEXISTS', KEYS[2], lane) == 1 then
    redis.call('HSET', KEYS[1], lane, string.format('%d %d %d', now, interval, polled))
    resumed = resumed + 1
  end
end
return resumed
"""
"""Waiting -> due, each lane that was full when it was polled last."""


@dataclass(frozen=True, slots=True)
class Signals:
    """When a portal's last signal came, and when a poll last found what none had told of: ms, 0 for never."""

    heard_ms: int = 0
    missed_ms: int = 0


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
        self._take, self._set = redis.register_script(_TAKE), redis.register_script(_SET)

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
        self._set(keys=[self._key], args=[portal, round(seconds * 1000), "XX"])

    def hasten(self, portal: str, seconds: float) -> None:
        """Let a portal be due no later than that."""
        self._set(keys=[self._key], args=[portal, round(seconds * 1000), "XX", "LT"])


class LaneSchedule:
    """When each lane of one portal is due. A lane that was never polled is due now."""

    def __init__(self, redis: Redis, stem: str) -> None:
        self._redis = redis
        self._key = keys.lanes(stem)
        self._signals = keys.signals(stem)
        self._sizes = keys.batch_sizes(stem)
        self._full = keys.full(stem)
        self._set, self._wake = redis.register_script(_SET_LANE), redis.register_script(_WAKE)
        self._resume = redis.register_script(_RESUME)

    def read(self, lanes: Iterable[str]) -> tuple[int, dict[str, int]]:
        """Return the ledger's clock, and lane -> for how many milliseconds it has been due; negative while it is
        not.
        """
        names = list(lanes)
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(self._key, names)
            (seconds, micros), reply = pipe.execute()
        now = int(seconds) * 1000 + int(micros) // 1000
        waited = {
            name: now - int(str(value).split()[0]) if value else 0 for name, value in zip(names, reply, strict=True)
        }
        return now, waited

    def waited_ms(self, lanes: Iterable[str]) -> dict[str, int]:
        """Return lane -> for how many milliseconds it has been due; negative while it is not."""
        return self.read(lanes)[1]

    def interval_seconds(self, lane: str) -> float:
        """Return the interval that was set last; 0.0 when none was."""
        value = self._redis.hget(self._key, lane)
        return int(str(value).split()[1]) / 1000 if value else 0.0

    def set_next(self, lane: str, seconds: float, *, polled_ms: int, soon_seconds: float) -> None:
        """Set when a lane is due after a poll that began at ``polled_ms``; soon, where a signal came since."""
        args: list[str | int] = [lane, round(seconds * 1000), polled_ms, round(soon_seconds * 1000)]
        self._set(keys=[self._key, self._signals], args=args)

    def wake(self, least_seconds: Mapping[str, float]) -> float:
        """Note a signal, and make lanes due. Return the seconds until the first of them is.

        ``least_seconds``: lane -> how long after its last poll it is due at the earliest.
        """
        args: list[str | int] = []
        for name, least in least_seconds.items():
            args += [name, milliseconds(least)]
        return int(self._wake(keys=[self._key, self._signals], args=args)) / 1000

    def note_full(self, lane: str, now_ms: int) -> None:
        """Note that a lane has as many open batches as it may, unless that is known."""
        self._redis.hsetnx(self._full, lane, now_ms)

    def note_room(self, lane: str) -> None:
        """Note that a lane is not full."""
        self._redis.hdel(self._full, lane)

    def resume(self, lanes: Iterable[str]) -> int:
        """After a batch was settled: make those of these lanes due that were full. Return how many there are."""
        return int(self._resume(keys=[self._key, self._full], args=list(lanes)))

    def batch_size(self, lane: str) -> int:
        """Return how many records the next call for a lane asks for; 0 where nothing was noted."""
        return int(self._redis.hget(self._sizes, lane) or 0)

    def note_batch_size(self, lane: str, size: int) -> None:
        """Note how many records the next call for a lane asks for; 0: as many as when little arrives."""
        if size:
            self._redis.hset(self._sizes, lane, size)
        else:
            self._redis.hdel(self._sizes, lane)

    def signals(self) -> Signals:
        """Return what is known of the portal's signals."""
        return Signals(*(int(each or 0) for each in self._redis.hmget(self._signals, ["heard", "missed"])))

    def note_missed(self) -> None:
        """Note that a poll found what no signal had told of."""
        self._redis.hset(self._signals, "missed", clock_ms(self._redis))
