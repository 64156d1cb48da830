"""The calls in flight of each portal, counted over all workers, so that a portal that hangs holds few of them.

A call takes a slot before it waits for the rate limit (`RateLimiter.take`, in the same script) and gives it back when
it has ended. A slot has an owner and an expiry, which the owner's process renews while the call lasts: a killed worker
frees its slots within seconds. Whoever finds no slot returns, and is told when to come back: each a little later than
the one before, so that a backlog does not come back all at once.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from redis.exceptions import RedisError

from b24offline import keys
from b24offline.counters import OBSERVE_LUA
from b24offline.errors import Actor, RateLimited
from b24offline.rest.circuit import OPENS_AT, CallRules, circuit_of
from b24offline.rest.suspects import SuspectPlaces

if TYPE_CHECKING:
    from collections.abc import Iterable

    import redis

_LONGEST_TURN: Final = 30
"""Whoever is refused comes back after so many times the spacing of those whose portal is silent, or sooner."""
_KEPT_MS: Final = 86_400_000

SLOT_LUA: Final = """
-- Fields of the calls: 'call:<slot>' = kind, circuit, lease end, beginning, 1 for a suspect one;
-- 'circuit:<name>' = silent calls, rests until, times it opened; 'silent:<name>' = when it opened first;
-- 'patience:<name>', 'usual:<name>' = ms, good until; 'turn:<kind>' = when the one that was refused last comes back.
local rules = cjson.decode(ARGV[8])
local now_ms = math.floor(now * 1000)

local function come_back(kind, spacing_ms, least_ms)
  local field = 'turn:' .. kind
  local last = tonumber(redis.call('HGET', KEYS[3], field) or '0')
  if last > now_ms + rules.longest_turn_ms then last = now_ms + rules.longest_turn_ms - spacing_ms end
  local turn = math.max(last, now_ms) + spacing_ms
  redis.call('HSET', KEYS[3], field, string.format('%.0f', turn))
  return math.max(turn - now_ms, least_ms)
end

-- Returns why there is no slot (nil when the call has one), the wait in ms, '1' for a suspect call, its patience in ms,
-- and after how many ms it is late.
local function take_slot(slot, kind, circuit, waits, crowded)
  local used, all, busy, slow, oldest_ms = { run = 0, poll = 0, settle = 0 }, 0, false, false, 0
  local fields = redis.call('HGETALL', KEYS[3])
  local known, held = {}, nil
  for i = 1, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    known[name] = value
    if string.sub(name, 1, 5) == 'call:' then
      local its_kind, its_circuit, ends, began, suspect = string.match(value, '^(%a+) (%S+) (%d+) (%d+) (%d)$')
      local left = tonumber(ends or '0') - now_ms
      if left <= 0 or left > rules.lease_ms then
        redis.call('HDEL', KEYS[3], name)
      elseif name == 'call:' .. slot then
        held = suspect
      else
        local lasts_ms = now_ms - tonumber(began)
        used[its_kind], all = used[its_kind] + 1, all + 1
        slow = slow or lasts_ms > rules.slow_ms
        if its_circuit == circuit then busy, oldest_ms = true, math.max(oldest_ms, lasts_ms) end
      end
    end
  end
  local function noted_ms(what, otherwise_ms)
    local found, ends = string.match(known[what .. circuit] or '', '^(%d+) (%d+)$')
    return tonumber(ends or '0') > now_ms and tonumber(found) or otherwise_ms
  end
  local patience, late = noted_ms('patience:', rules.patience_ms), math.max(rules.late_ms, 2 * noted_ms('usual:', 0))
  if held and not crowded then return nil, 0, held, patience, late end
  local silent, resting = string.match(known['circuit:' .. circuit] or '', '^(%d+) (%d+)')
  silent = tonumber(silent or '0')
  if crowded then
    redis.call('HDEL', KEYS[3], 'call:' .. slot)
    return silent >= rules.opens_at and 'silent' or 'slow', come_back(kind, rules.silent_spacing_ms, rules.slow_ms)
  end
  local suspect = (silent > 0 or oldest_ms > late) and '1' or '0'
  if silent >= rules.opens_at then
    local rest = tonumber(resting) - now_ms
    if rest > 0 and rest <= rules.longest_rest_ms then
      return 'silent', come_back(kind, rules.silent_spacing_ms, rest)
    elseif busy then
      return 'silent', come_back(kind, rules.silent_spacing_ms, rules.slow_ms)
    end
  end
  local free = all < rules.in_flight
    and (kind == 'settle' or used.run + used.poll < rules.in_flight - 1)
    and (kind == 'poll' or used.run + used.settle < rules.in_flight - 1)
    and (kind ~= 'run' or used.run < rules.in_flight - 2)
  if not free then
    if slow then return 'slow', come_back(kind, rules.silent_spacing_ms, 0) end
    return 'full', waits and 0 or come_back(kind, rules.spacing_ms, 0)
  end
  redis.call('HSET', KEYS[3], 'call:' .. slot,
    string.format('%s %s %.0f %.0f %s', kind, circuit, now_ms + rules.lease_ms, now_ms, suspect))
  redis.call('PEXPIRE', KEYS[3], rules.kept_ms)
  return nil, 0, suspect, patience, late
end
"""
"""Functions of the script of `RateLimiter.take`; it gives the calls as KEYS[3] and the rules as ARGV[8]."""

_NOW_MS: Final = """
local clock = redis.call('TIME')
local now_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
"""

_GIVE_BACK: Final = (
    _NOW_MS
    + OBSERVE_LUA
    + """
redis.call('HDEL', KEYS[1], 'call:' .. ARGV[1])
if ARGV[6] ~= '' then
  redis.call('HINCRBY', KEYS[2], 'requests:' .. ARGV[6], 1)
  observe(KEYS[2], 'request', ARGV[7], 1)
end
local field, weight = 'circuit:' .. ARGV[2], tonumber(ARGV[3])
if not weight then return '' end
local told, rules = 'silent:' .. ARGV[2], cjson.decode(ARGV[4])
local function note_longest(what, ms)
  local known = string.match(redis.call('HGET', KEYS[1], what .. ARGV[2]) or '0', '^%d+')
  local longest = math.max(ms, tonumber(known))
  redis.call('HSET', KEYS[1], what .. ARGV[2], string.format('%.0f %.0f', longest, now_ms + rules.kept_ms))
end
if weight == 0 then
  if tonumber(ARGV[7]) > rules.late_ms / 2 then note_longest('usual:', tonumber(ARGV[7])) end
  redis.call('HDEL', KEYS[1], field)
  return redis.call('HDEL', KEYS[1], told) == 1 and 'closed' or ''
end
local known = redis.call('HGET', KEYS[1], field)
if ARGV[5] ~= '' then note_longest('patience:', 2 * tonumber(ARGV[5])) end
local silent, resting, times = string.match(known or '', '^(%d+) (%d+) (%d+)$')
silent = tonumber(silent or '0')
silent = weight < 0 and math.max(silent, 1) or silent + weight
resting, times = tonumber(resting or '0'), tonumber(times or '0')
local opens = silent >= rules.opens_at and now_ms >= resting
if opens then
  times = times + 1
  resting = now_ms + rules.rests_ms[math.min(times, #rules.rests_ms)]
end
redis.call('HSET', KEYS[1], field, string.format('%d %.0f %d', silent, resting, times))
redis.call('PEXPIRE', KEYS[1], rules.kept_ms)
if opens and times == 1 then redis.call('HSET', KEYS[1], told, string.format('%.0f', now_ms)) end
return opens and times == 1 and 'opened' or ''
"""
)
"""ARGV: slot, circuit, silent calls it counts for ('' when nothing was sent, or `GIVEN_UP`), rules, patience in ms of a
call that was cut off or '', method and outcome of what was sent or '', ms that it took. Returns what became of the
circuit."""

_RENEW: Final = (
    _NOW_MS
    + """
local kind, circuit, _, rest = string.match(redis.call('HGET', KEYS[1], 'call:' .. ARGV[1]) or '',
  '^(%a+) (%S+) (%d+) (.*)$')
if kind then
  local ends = string.format('%.0f', now_ms + tonumber(ARGV[2]))
  redis.call('HSET', KEYS[1], 'call:' .. ARGV[1], table.concat({ kind, circuit, ends, rest }, ' '))
end
return kind and 1 or 0
"""
)
"""ARGV: slot, lease ms."""


GIVEN_UP: Final = -1
"""In the place of silence: the call was late and found no shared place. Those after it are suspect, and no more."""


class NotAnswering(RateLimited):
    """The call was not sent: calls like it have brought no answer, and another one tries first whether they do now."""

    actor: ClassVar[Actor] = "nobody"

    def __str__(self) -> str:
        return (
            f"Portal {self.portal} is not called for {self.wait_seconds:.0f} s: it has not answered calls like this "
            "one. Nothing was sent; it is tried again by itself."
        )


@dataclass(frozen=True, slots=True)
class Request:
    """How a request that was sent ended: "answered", or the class of its error; and how long it took."""

    outcome: str
    seconds: float


@dataclass(slots=True)
class CallSlot:
    """One call's place among those of its portal. ``shared``: it has one of the `SuspectPlaces`, too; ``method``: what
    it is counted as.
    """

    portal: str
    circuit: str
    kind: str
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    shared: bool = False
    method: str = ""


class CallSlots:
    """The slots of all portals, for one process and its threads. Errors of Redis pass through."""

    def __init__(self, redis_client: redis.Redis, *, key_prefix: str, rules: CallRules, request_seconds: float) -> None:
        self._redis = redis_client
        self._key_prefix = key_prefix
        self._lease_ms = round(rules.lease_seconds * 1000)
        self.rules = rules
        self.arguments = _arguments(rules, request_seconds)
        self._give_back = redis_client.register_script(_GIVE_BACK)
        self._renew = redis_client.register_script(_RENEW)
        self._places = SuspectPlaces(redis_client, key_prefix=key_prefix, lease_seconds=rules.lease_seconds)
        self._held: dict[str, CallSlot] = {}
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    def new(self, portal: str, methods: Iterable[str], kind: str) -> CallSlot:
        """Return a slot to take; it is renewed from now on."""
        names = set(methods)
        self._places.note_caller()
        slot = CallSlot(portal, circuit_of(names), kind, method="batch" if "batch" in names else "".join(names))
        with self._lock:
            self._held[slot.name] = slot
            if self._renewer is None or not self._renewer.is_alive():  # also in a child that was forked
                self._renewer = threading.Thread(target=self._renew_while_held, name="call-slots", daemon=True)
                self._renewer.start()
        return slot

    def key(self, portal: str) -> str:
        """Return the key of a portal's calls."""
        return keys.calls(keys.stem(self._key_prefix, portal))

    def share(self, slot: CallSlot, *, anyway: bool = False) -> bool:
        """Return whether a suspect or late call has one of the places that such calls share; see `SuspectPlaces.take`.

        The place is renewed and given back together with its slot.
        """
        slot.shared = self._places.take(slot.kind, slot.name, "anyway" if anyway else "free")
        return slot.shared

    def give_back(
        self, slot: CallSlot, silence: int | None, cut_off_seconds: float = 0.0, request: Request | None = None
    ) -> str:
        """End a call. Return "opened", "closed" or "".

        ``silence``: see `silence_of`, or `GIVEN_UP`; None when nothing was sent.
        ``cut_off_seconds``: after how long a call that only reads was given up; the next ones are given twice that.
        ``request``: what was sent, to be counted, and how long answers take.
        """
        if not self.forget(slot):
            return ""
        if slot.shared:
            self._places.give_back(slot.kind, slot.name)
        weight = "" if silence is None else silence
        cut_off = round(cut_off_seconds * 1000) or ""
        sent = (f"{slot.method}:{request.outcome}", round(request.seconds * 1000)) if request else ("", 0)
        arguments = [slot.name, slot.circuit, weight, self.arguments, cut_off, *sent]
        counters = keys.stats(keys.stem(self._key_prefix, slot.portal))
        reply = self._give_back(keys=[self.key(slot.portal), counters], args=arguments)
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def forget(self, slot: CallSlot) -> bool:
        """Renew a slot no longer: the call was refused, or has ended. Return whether it was renewed before."""
        with self._lock:
            return self._held.pop(slot.name, None) is not None

    def _renew_while_held(self) -> None:
        pause, held = threading.Event(), set[str]()
        while True:
            pause.wait(self.rules.lease_seconds / 3)
            with self._lock:
                if not self._held:
                    self._renewer = None
                    return
                slots = [slot for name, slot in self._held.items() if name in held]
                held = set(self._held)
            for slot in slots:  # calls that are over by now were never renewed
                try:
                    self._renew(keys=[self.key(slot.portal)], args=[slot.name, self._lease_ms])
                    if slot.shared:
                        self._places.take(slot.kind, slot.name, "renew")
                except RedisError:
                    break  # the next round tries again; a slot that expires is only a bound that is late


def _arguments(rules: CallRules, request_seconds: float) -> str:
    """Return the rules as the scripts read them. Who is refused comes back at the pace of the portal, or slower."""
    return json.dumps(
        {
            "in_flight": rules.in_flight,
            "opens_at": OPENS_AT,
            "lease_ms": round(rules.lease_seconds * 1000),
            "patience_ms": round(rules.patience_seconds * 1000),
            "slow_ms": round(rules.slow_seconds * 1000),
            "late_ms": round(rules.late_seconds * 1000),
            "rests_ms": [round(seconds * 1000) for seconds in rules.rest_seconds],
            "longest_rest_ms": round(max(rules.rest_seconds) * 1000),
            "spacing_ms": max(1, round(request_seconds * 500)),
            "silent_spacing_ms": round(rules.slow_seconds * 1000),
            "longest_turn_ms": round(rules.slow_seconds * 1000) * _LONGEST_TURN,
            "kept_ms": _KEPT_MS,
        }
    )
