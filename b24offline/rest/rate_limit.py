"""The rate limit of each portal, shared by all workers through Redis.

One leaky bucket for a portal, as a single number in Redis: the time at which it will be empty. Runs and polls may
fill it up to a ceiling below its capacity, settling may fill it completely. So a share is always free for settling,
and what settling does not use is not wasted, as it would be with two separate limiters.

The scripts are our own because after a 503 the portal's bucket is full, whatever ours says: ours must be filled and
blocked in one step, which limiters from PyPI cannot do. All times are those of the Redis server, so that a worker
with a wrong clock cannot disturb the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast

from b24offline import keys
from b24offline.counters import OBSERVE_LUA
from b24offline.errors import Actor, ConfigError, Overloaded, RateLimited
from b24offline.rest.call_slots import SLOT_LUA, CallSlots
from b24offline.rest.circuit import CallRules

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

    from b24offline.rest.call_slots import CallSlot

Kind = Literal["run", "poll", "settle"]
"""What a request is for; a share of the rate is reserved for ``settle``."""

LONGEST_PAUSE_SECONDS: Final = 660.0
"""The portal counts a method's time over ten minutes, so a longer pause must be a mistake."""

_METHOD_PAUSE_SECONDS: Final = 60.0

BLOCK_SECONDS: Final = 3600.0
"""How long a portal that the vendor blocked by hand is not called."""

_NOW: Final = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
"""

_EMPTY_AT: Final = (
    _NOW
    + """
local empty_at = tonumber(redis.call('GET', KEYS[1]) or '0')
-- Further ahead than anything reaches: the server's clock has been set back.
if empty_at < now or empty_at > now + tonumber(ARGV[3]) then empty_at = now end
local function store(value)
  redis.call('SET', KEYS[1], string.format('%.6f', value), 'PX', math.ceil((value - now) * 1000) + 1000)
end
"""
)

_TAKE: Final = (
    _EMPTY_AT
    + SLOT_LUA
    + OBSERVE_LUA
    + """
local kind, slot, circuit = ARGV[5], ARGV[6], ARGV[7]
local function turned_away(why, seconds)
  redis.call('HINCRBY', KEYS[4], 'turned_away:' .. why, 1)
  return { why, string.format('%.6f', seconds), '0', '0', '0' }
end
local function refused(why, seconds)
  if slot ~= '' then redis.call('HDEL', KEYS[3], 'call:' .. slot) end
  return turned_away(why, seconds)
end
local blocked = redis.call('PTTL', KEYS[2])
if blocked > 0 then return refused('blocked', blocked / 1000) end
local paused = 0
for i = 5, #KEYS do paused = math.max(paused, redis.call('PTTL', KEYS[i])) end
if paused > 0 then return refused('paused', paused / 1000) end
local suspect, patience, late = '0', 0, 0
if slot ~= '' then
  local why, wait
  why, wait, suspect, patience, late = take_slot(slot, kind, circuit, ARGV[9] == '1', ARGV[9] == 'crowded')
  if why == 'full' and ARGV[9] == '1' then return { why, '0', '0', '0', '0' } end
  if why then return turned_away(why, wait / 1000) end
end
local wait = empty_at - now - tonumber(ARGV[2])
if wait > 0.000001 then
  if slot == '' or wait <= tonumber(ARGV[4]) then return { 'rate', string.format('%.6f', wait), suspect, '0', '0' } end
  return refused('paused', math.max(wait, come_back(kind, rules.spacing_ms, 0) / 1000))
end
store(empty_at + tonumber(ARGV[1]))
observe(KEYS[4], 'wait:rate', ARGV[10] * 1000, 1)
observe(KEYS[4], 'wait:slot', ARGV[11] * 1000, 1)
return { 'go', '0', suspect, tostring(patience), tostring(late) }
"""
)
"""KEYS: the bucket, the block, the calls, the counters, pauses of methods. ARGV: seconds for one request,
seconds of filling allowed beforehand, longest plausible filling, longest wait with a slot, kind, slot or '', circuit,
rules of slots; then 1 for a call that looks again soon when all slots are taken, "crowded" for a suspect one that found
no shared place; seconds that it has waited for the rate limit, and for a slot."""

_FILL: Final = (
    _EMPTY_AT
    + """
local full_at = now + tonumber(ARGV[1]) + tonumber(ARGV[2])
if full_at > empty_at then store(full_at) end
return '0'
"""
)
"""ARGV: seconds to block, seconds of filling allowed for settle, longest plausible filling."""

_PAUSE: Final = (
    _NOW
    + """
local left = tonumber(ARGV[1]) - now
if left <= 0 or left > tonumber(ARGV[2]) then left = tonumber(ARGV[3]) end
local milliseconds = math.ceil(left * 1000)
if redis.call('PTTL', KEYS[1]) < milliseconds then redis.call('SET', KEYS[1], '1', 'PX', milliseconds) end
return '0'
"""
)
"""ARGV: epoch seconds of the end, longest plausible pause, the pause to make otherwise."""


Why = Literal["go", "rate", "paused", "blocked", "full", "slow", "silent"]


@dataclass(frozen=True, slots=True)
class Turn:
    """The reply to a request that wants to go.

    Attributes:
        why: "go": it may, and is counted. "rate": it has its slot, if it wanted one, and waits for the rate limit. It
            has none where a method is "paused" or the limit far away, the portal "blocked", all slots taken ("full",
            by calls that last: "slow"), or where calls like it brought no answer ("silent").
        wait_seconds: when to ask again; 0.0 when it may go.
        suspect: whether calls like it brought no answer last, or one is late: it needs one of the `SuspectPlaces`.
        patience_seconds: how long a call that only reads is to wait for its answer, when it may go.
        late_seconds: after how long without an answer it is late.
    """

    why: Why
    wait_seconds: float = 0.0
    suspect: bool = False
    patience_seconds: float = 0.0
    late_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Waited:
    """For how long a call has waited for its turn."""

    rate_seconds: float = 0.0
    slot_seconds: float = 0.0


NOT_WAITED: Final = Waited()


class PortalBlocked(RateLimited):
    """The call was not sent: the vendor blocked the portal by hand. Polls are the first to try again."""

    actor: ClassVar[Actor] = "operator"

    def __str__(self) -> str:
        return f"Portal {self.portal} is not called: REST is blocked for overload. {Overloaded.advice}"


class RateLimiter:
    """The rate limiter of all portals; it keeps no state of its own.

    A portal gets ``burst`` requests at once and ``requests_per_second`` after that; ``ack_rate_share`` (0 to
    below 1) of the burst is for settling alone. ``call_rules`` bound its calls in flight. Errors of Redis pass through.
    Raise ConfigError for impossible numbers.
    """

    def __init__(
        self,
        redis_client: redis.Redis,
        *,
        key_prefix: str,
        requests_per_second: float = 2.0,
        burst: int = 50,
        ack_rate_share: float = 0.2,
        call_rules: CallRules | None = None,
    ) -> None:
        if requests_per_second <= 0 or burst < 1 or not 0 <= ack_rate_share < 1:
            raise ConfigError(
                "The rate limit is impossible. Use more than 0 requests per second, a burst of at least 1 and "
                "a share for settling of 0 to below 1, like 2.0, 50 and 0.2."
            )
        self._key_prefix = key_prefix
        self._request_seconds = 1 / requests_per_second
        others_burst = max(1, int(burst * (1 - ack_rate_share)))
        self._ahead_seconds = {
            "run": (others_burst - 1) * self._request_seconds,
            "poll": (others_burst - 1) * self._request_seconds,
            "settle": (burst - 1) * self._request_seconds,
        }
        self._longest_seconds = burst * self._request_seconds + LONGEST_PAUSE_SECONDS
        self._redis = redis_client
        self.slots = CallSlots(
            redis_client,
            key_prefix=key_prefix,
            rules=call_rules or CallRules(),
            request_seconds=self._request_seconds,
        )
        self._take = redis_client.register_script(_TAKE)
        self._fill = redis_client.register_script(_FILL)
        self._pause = redis_client.register_script(_PAUSE)

    @property
    def shortest_nap_seconds(self) -> float:
        """How long a call may keep its slot for one wait, at least: what one request costs."""
        return self._request_seconds

    def take(
        self,
        portal: str,
        kind: Kind,
        methods: Iterable[str] = (),
        slot: CallSlot | None = None,
        *,
        nap_seconds: float = 0.0,
        waits: bool = False,
        waited: Waited = NOT_WAITED,
        crowded: bool = False,
    ) -> Turn:
        """Ask for a turn, one script for all: block, pauses of the methods, slot and circuit, and the rate.

        A call keeps its slot while it waits for the rate limit, unless the wait is longer than ``nap_seconds``. One
        that ``waits`` for a slot is told no time; others are, each a later one than the one before. ``waited``: for how
        long it has waited until now, to be counted once it goes. ``crowded``: it is suspect and found no shared place,
        so that it gives its slot back and is told when to come.
        """
        named = [keys.rate_method(self._key_prefix, portal, method) for method in methods]
        reply = self._take(
            keys=[
                keys.rate_bucket(self._key_prefix, portal),
                keys.rate_blocked(self._key_prefix, portal, polls=kind == "poll"),
                self.slots.key(portal),
                keys.stats(keys.stem(self._key_prefix, portal)),
                *named,
            ],
            args=[
                *(self._request_seconds, self._ahead_seconds[kind], self._longest_seconds, nap_seconds, kind),
                *((slot.name, slot.circuit) if slot else ("", "")),
                self.slots.arguments,
                "crowded" if crowded else int(waits),
                *(waited.rate_seconds, waited.slot_seconds),
            ],
        )
        why, wait, suspect, patience, late = (part.decode() if isinstance(part, bytes) else str(part) for part in reply)
        return Turn(cast("Why", why), float(wait), suspect == "1", float(patience) / 1000, float(late) / 1000)

    def slow_down(self, portal: str, seconds: float) -> None:
        """Refuse all requests for so many seconds, then allow the steady rate without a burst, settling first."""
        blocked_seconds = min(seconds, LONGEST_PAUSE_SECONDS)
        arguments = [blocked_seconds, self._ahead_seconds["settle"], self._longest_seconds]
        self._fill(keys=[keys.rate_bucket(self._key_prefix, portal)], args=arguments)

    def pause_method(self, portal: str, method: str, until_epoch: float) -> None:
        """Pause one method until an epoch time; never shortens a pause.

        For a time in the past (0.0 when the portal sent none) or implausibly far ahead, the pause is
        a minute from now.
        """
        arguments = [until_epoch, LONGEST_PAUSE_SECONDS, _METHOD_PAUSE_SECONDS]
        self._pause(keys=[keys.rate_method(self._key_prefix, portal, method)], args=arguments)

    def block(self, portal: str, seconds: float) -> None:
        """Refuse all requests for so many seconds; polls for a sixtieth less, so they try first, others for more."""
        with self._redis.pipeline() as pipe:
            for polls, share in ((True, 59), (False, 61)):
                key = keys.rate_blocked(self._key_prefix, portal, polls=polls)
                pipe.set(key, "1", px=max(1, round(seconds * 1000 * share / 60)))
            pipe.execute()

    def unblock(self, portal: str) -> None:
        """End a block before its time."""
        self._redis.delete(*(keys.rate_blocked(self._key_prefix, portal, polls=polls) for polls in (True, False)))
