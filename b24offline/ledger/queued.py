"""Which messages wait in the queue of polls, so that at most one of a kind does while nobody reads.

A message is noted when it is sent, and struck off by whoever reads it. A note outlives a message that was lost; as the
queue keeps its order, whoever reads a message that was sent later can tell.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from b24offline import keys
from b24offline.counters import OBSERVE_LUA
from b24offline.ledger.transitions import clock_ms, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from redis import Redis

log = logging.getLogger(__name__)

_NOW: Final = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
_TAKE: Final = f"""{_NOW}{OBSERVE_LUA}
redis.call('HSET', KEYS[2], 'read:' .. ARGV[3], now)
local noted = redis.call('HMGET', KEYS[1], ARGV[1], 'read')
if not noted[1] then return now - ARGV[2] end
local sent = math.min(tonumber(noted[1]), now)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], 'read', math.max(sent, math.min(tonumber(noted[2] or '0'), now)))
observe(KEYS[2], 'queued:' .. ARGV[3], now - sent, 1)
return sent
"""
_BEGIN: Final = f"""{_NOW}
local begun = {{}}
for i = 2, #ARGV do
  local sent = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '-1')
  if sent < tonumber(ARGV[1]) or sent > now then
    redis.call('HSET', KEYS[1], ARGV[i], now)
    begun[#begun + 1] = i - 1
  end
end
return begun
"""
_LOOK: Final = f"""{_NOW}
local noted = redis.call('HMGET', KEYS[1], ARGV[1], 'read')
local sent, read = tonumber(noted[1] or '-1'), tonumber(noted[2] or '-1')
if sent < 0 or sent > now or read - sent >= tonumber(ARGV[2]) then return 'lost' end
return now - sent < tonumber(ARGV[2]) and 'waits' or 'late'
"""


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """Messages of one task that were sent and not read: how many, and the age of the oldest in seconds."""

    count: int
    oldest_seconds: float


class QueuedMessages:
    """The notes of all processes. ``patience_seconds``: how far the order of two messages that are read may be off."""

    def __init__(self, redis: Redis, key_prefix: str, patience_seconds: float) -> None:
        self._redis = redis
        self._key = keys.queued(key_prefix)
        self._counters = keys.stats(key_prefix)
        self._patience_ms = milliseconds(patience_seconds)
        self._take, self._begin, self._look = map(redis.register_script, (_TAKE, _BEGIN, _LOOK))

    def take(self, task: str, portal: str = "") -> int:
        """Strike off the message that is read now. Return when it was sent, in milliseconds of the ledger's clock."""
        noted, name = [self._key, self._counters], task.rpartition(".")[2]
        return int(self._take(keys=noted, args=[_field(task, portal), self._patience_ms, name]))

    def begin(self, task: str, portals: Iterable[str] = ("",), read_until_ms: int = 0) -> list[str]:
        """Note messages that are about to be sent. Return their portals, without those whose message waits.

        ``read_until_ms``: what was sent before has been read, or is lost.
        """
        names = list(portals)
        fields = [_field(task, portal) for portal in names]
        reply = self._begin(keys=[self._key], args=[read_until_ms, *fields]) if fields else []
        return [names[int(place) - 1] for place in reply]

    def begin_unless_waiting(self, task: str, count: Callable[[], int]) -> bool:
        """Note a message, and return True unless it waits. ``count`` returns how many messages are in the queue.

        It does not wait where a message that was sent later has been read, or where the queue is empty. Where the
        ledger cannot tell, it is to be sent.
        """
        try:
            state = self._look(keys=[self._key], args=[task, self._patience_ms])
            if state == "waits" or (state == "late" and count()):
                return False
            self.forget(task)
            return bool(self.begin(task))
        except RedisError as error:
            log.warning("whether a message waits is not known", extra={"task": task, "why": type(error).__name__})
            return True

    def forget(self, task: str, portal: str = "") -> None:
        """Strike off a message that was not sent, where the ledger can be reached."""
        with suppress(RedisError):
            self._redis.hdel(self._key, _field(task, portal))


def queued_tasks(redis: Redis, key_prefix: str) -> dict[str, QueuedTask]:
    """Return task, without its prefix -> its messages that were sent and not read; lost ones too, until it is seen."""
    noted, now_ms = redis.hgetall(keys.queued(key_prefix)), clock_ms(redis)
    ages: dict[str, list[float]] = {}
    for name, sent in noted.items():
        if name != "read":
            task = str(name).partition(" ")[0].rpartition(".")[2]
            ages.setdefault(task, []).append((now_ms - int(sent)) / 1000)
    return {task: QueuedTask(len(of), max(of)) for task, of in ages.items()}


def _field(task: str, portal: str) -> str:
    return f"{task} {portal}".rstrip()
