"""Whether the authorization servers answer, known to all workers, so that one that hangs holds few of them.

A refresh cannot be given up while it is under way: its answer is the only copy of the new pair. So one that begins
while another one is late, or after one that brought no answer, first takes one of the places that calls to silent
portals share; where there is none it is put off. The first answer ends that.
"""

from __future__ import annotations

import random
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from b24offline import keys
from b24offline.errors import AuthServerUnavailable, RateLimited
from b24offline.rest.error_mapping import TOKEN_METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    from b24offline.rest.call_slots import CallSlot, CallSlots

_T = TypeVar("_T")
_SILENT_SECONDS: Final = 180
"""For so long after the last refresh without an answer the next ones take a place."""
_LONGEST_SECONDS: Final = 300
"""No refresh lasts longer: one that is older was begun by a process that died."""

_LOOK: Final = """
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms - tonumber(ARGV[2]))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '(' .. now_ms, '+inf')
local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local silent = redis.call('EXISTS', KEYS[2]) == 1 or (oldest and now_ms - tonumber(oldest) > tonumber(ARGV[1]))
if ARGV[3] ~= '' then
  redis.call('ZADD', KEYS[1], now_ms, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return silent and 1 or 0
"""
"""ARGV: ms after which a refresh is late, ms after which it is forgotten, the refresh that begins or ''."""


class AuthServers:
    """The refreshes under way at each authorization server. While Redis does not answer nothing is bounded."""

    def __init__(self, redis_client: redis.Redis, slots: CallSlots, *, key_prefix: str, late_seconds: float) -> None:
        self._redis = redis_client
        self._slots = slots
        self._key_prefix = key_prefix
        self._late_seconds = late_seconds
        self._look = redis_client.register_script(_LOOK)

    def is_silent(self, auth_url: str) -> bool:
        """Return whether no answer is to be expected soon, so that nobody should wait for one."""
        return self._looked(auth_url)

    def ask(self, portal: str, auth_url: str, request: Callable[[], _T]) -> _T:
        """Make a request of a portal's tokens and return its reply. Raise RateLimited where it is put off."""
        with self._place(portal, auth_url):
            reply = request()
        unanswered = isinstance(reply, AuthServerUnavailable) and reply.status is None
        silent = keys.auth_silent(self._key_prefix, _host(auth_url))
        with suppress(RedisError):
            if unanswered:
                self._redis.set(silent, "1", ex=_SILENT_SECONDS)
            else:
                self._redis.delete(silent)
        return reply

    @contextmanager
    def _place(self, portal: str, auth_url: str) -> Iterator[None]:
        slot = self._slots.new(portal, [TOKEN_METHOD], "run")
        try:
            if self._looked(auth_url, slot.name) and not self._shared(slot):
                raise RateLimited(portal, self._late_seconds * random.uniform(1, 1.25))
            yield
        finally:
            with suppress(RedisError):
                self._redis.zrem(keys.refreshes(self._key_prefix, _host(auth_url)), slot.name)
                self._slots.give_back(slot, None)

    def _shared(self, slot: CallSlot) -> bool:
        with suppress(RedisError):
            return self._slots.share(slot)
        return True

    def _looked(self, auth_url: str, begins: str = "") -> bool:
        host = _host(auth_url)
        places = [keys.refreshes(self._key_prefix, host), keys.auth_silent(self._key_prefix, host)]
        with suppress(RedisError):
            return bool(
                self._look(keys=places, args=[round(self._late_seconds * 1000), _LONGEST_SECONDS * 1000, begins])
            )
        return False


def _host(auth_url: str) -> str:
    return urlsplit(auth_url).netloc.rpartition("@")[2].lower()
