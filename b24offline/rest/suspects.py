"""The places that calls to silent portals share, over all portals and workers: together they hold few workers.

A circuit is *suspect* while its last call brought no answer, while one is late, and while it is open and one call
tries. Such a call takes a place before it is sent; one that turns out to be late takes a place then, or is given up. So
however many portals hang at once, all others have the rest of the workers as soon as the first answers are late.

Places are a part of the workers, which are counted by the calls that they make: more of them let a large deployment try
more silent portals at once, so that the end of an outage of all portals is noticed soon. Settling has a place that
nothing else takes, and never takes the last one.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

from b24offline import keys

if TYPE_CHECKING:
    import redis

Want = Literal["free", "anyway", "renew"]
FEWEST_PLACES: Final = 2
"""One for settling, one for the rest."""
_WORKERS_FOR_ONE: Final = 4
_COUNTED_SECONDS: Final = 60.0
_FORGOTTEN_MS: Final = 180_000

_NOW_MS: Final = """
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""

_COUNT: Final = (
    _NOW_MS
    + """
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], now_ms + tonumber(ARGV[2]), '+inf')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
)
"""ARGV: worker, ms until one that makes no call is forgotten. Returns how many there are."""

_TAKE: Final = (
    _NOW_MS
    + """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms)
-- Of a clock that was far ahead; one that steps back a little takes nobody's place.
redis.call('ZREMRANGEBYSCORE', KEYS[1], now_ms + 2 * tonumber(ARGV[2]), '+inf')
local has = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ARGV[4] == 'renew' and not has then return 0 end
if ARGV[4] == 'free' and not has then
  local held, alike, places = redis.call('ZRANGE', KEYS[1], 0, -1), 0, tonumber(ARGV[3])
  local settles = string.sub(ARGV[1], 1, 7) == 'settle:'
  for _, name in ipairs(held) do
    if (string.sub(name, 1, 7) == 'settle:') == settles then alike = alike + 1 end
  end
  if #held >= places or alike >= places - 1 then return 0 end
end
redis.call('ZADD', KEYS[1], now_ms + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
)
"""ARGV: kind and slot, lease ms, places, and what is wanted: a "free" one, one "anyway", or only to "renew" its own."""


def places_for(workers: int) -> int:
    """Return how many calls to silent portals may be under way at once. Pure."""
    return max(FEWEST_PLACES, workers // _WORKERS_FOR_ONE)


class SuspectPlaces:
    """The places, for one process and its threads. Errors of Redis pass through."""

    def __init__(self, redis_client: redis.Redis, *, key_prefix: str, lease_seconds: float) -> None:
        self._redis = redis_client
        self._places_key = keys.suspects(key_prefix)
        self._callers_key = keys.callers(key_prefix)
        self._lease_ms = round(lease_seconds * 1000)
        self._count = redis_client.register_script(_COUNT)
        self._take = redis_client.register_script(_TAKE)
        self._worker = threading.local()
        self._places = FEWEST_PLACES

    def note_caller(self) -> None:
        """Count this thread among those that call portals; asks the ledger once a minute."""
        if time.monotonic() < getattr(self._worker, "counted_until", 0.0):
            return
        if not hasattr(self._worker, "name"):
            self._worker.name = secrets.token_hex(8)
        workers = int(self._count(keys=[self._callers_key], args=[self._worker.name, _FORGOTTEN_MS]))
        self._places = places_for(workers)
        self._worker.counted_until = time.monotonic() + _COUNTED_SECONDS

    def take(self, kind: str, slot: str, want: Want = "free") -> bool:
        """Return whether a call has a place now, for a lease.

        It takes a "free" one; or one "anyway", when it is under way and must not be given up; or does no more than
        "renew" the one that it has.
        """
        return bool(self._take(keys=[self._places_key], args=[f"{kind}:{slot}", self._lease_ms, self._places, want]))

    def give_back(self, kind: str, slot: str) -> None:
        """End a place."""
        self._redis.zrem(self._places_key, f"{kind}:{slot}")
