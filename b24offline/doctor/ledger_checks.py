"""The ledger's server: what it says about itself, and what that means for what we keep in it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from b24offline import keys
from b24offline.doctor.check import Check, counted, failed, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from redis import Redis

_FULL: Final = 0.9
_CLOCK_SECONDS: Final = 5.0
_SCAN_SECONDS: Final = 3.0
_OLDEST: Final = (6, 2)
"""Version of Redis that our scripts need."""


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What the server answered.

    Attributes:
        info: its own words, of INFO.
        ahead_seconds: how far its clock is ahead of ours.
        strangers: names of portals in the ledger, under our prefix, that the store does not know.
    """

    info: Mapping[str, Any]
    ahead_seconds: float
    strangers: tuple[str, ...] = ()


def ledger_facts(redis: Redis, prefix: str, portals: Collection[str]) -> LedgerFacts:
    """Ask the server. Raise RedisError."""
    info = redis.info()
    seconds, micros = redis.time()
    ahead = seconds + micros / 1e6 - time.time()
    return LedgerFacts(info, ahead, tuple(sorted(_portals_below(redis, prefix) - set(portals))))


def _portals_below(redis: Redis, prefix: str) -> set[str]:
    """Return the names of portals that have a ledger under the prefix: of a huge server as many as are soon found."""
    before, after = keys.fencing(keys.stem(prefix, "\0")).split("\0")
    deadline, cursor, found = time.monotonic() + _SCAN_SECONDS, 0, set[str]()
    while True:
        cursor, names = redis.scan(cursor, keys.pattern(prefix), count=1000)
        texts = map(str, names)
        found |= {name[len(before) : -len(after)] for name in texts if name.endswith(after)}
        if not cursor or time.monotonic() > deadline:
            return found


def ledger_checks(facts: LedgerFacts, where: str, prefix: str) -> Iterator[Check]:
    """Yield the checks of a server that answers."""
    info = facts.info
    yield _version(info, where)
    yield _role(info)
    yield _eviction(info)
    yield _memory(info)
    yield _persistence(info)
    yield _clock(facts.ahead_seconds)
    yield _prefix(facts.strangers, prefix)


def _version(info: Mapping[str, Any], where: str) -> Check:
    text = str(info.get("valkey_version") or info.get("redis_version") or "")
    kind = "Valkey" if "valkey_version" in info else "Redis"
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if numbers < _OLDEST:
        return failed("ledger", f"{kind} {text} at {where} is too old.", "Use Redis 6.2 or newer, or Valkey.")
    return ok("ledger", f"{kind} {text} answers at {where}.")


def _role(info: Mapping[str, Any]) -> Check:
    name = "ledger role"
    if info.get("redis_mode") == "cluster":
        return failed(
            name,
            "It is a Redis Cluster, which Celery does not support as a broker.",
            "Use a single server or Sentinel.",
        )
    if info.get("role") != "master":
        return failed(name, "It is a replica: it refuses every write.", "Let B24_REDIS_URL name the primary server.")
    replicas = int(info.get("connected_slaves") or 0)
    return ok(name, f"It is the primary server, with {counted(replicas, 'replica')}.")


def _eviction(info: Mapping[str, Any]) -> Check:
    name = "ledger eviction"
    policy, evicted = str(info.get("maxmemory_policy", "")), int(info.get("evicted_keys") or 0)
    remedy = "Set maxmemory-policy noeviction on that server, or give the ledger one of its own."
    if policy and policy != "noeviction" and int(info.get("maxmemory") or 0):
        return failed(name, f"The server may delete our keys when it is full ({policy}).", remedy)
    if evicted:
        return failed(name, f"The server has deleted {evicted} keys since it started, because it was full.", remedy)
    if policy and policy != "noeviction":
        return warning(name, f"With a maxmemory the server would delete our keys ({policy}).", remedy)
    return ok(name, "The server deletes nothing by itself.")


def _memory(info: Mapping[str, Any]) -> Check:
    used, most = int(info.get("used_memory") or 0), int(info.get("maxmemory") or 0)
    text = f"{used / 1e6:.0f} MB used" + (f" of {most / 1e6:.0f} MB." if most else ", without a maxmemory.")
    if most and used > _FULL * most:
        return failed("ledger memory", text, "Raise maxmemory: a full server refuses writes, and everything waits.")
    return ok("ledger memory", text)


def _persistence(info: Mapping[str, Any]) -> Check:
    name = "ledger persistence"
    if str(info.get("rdb_last_bgsave_status", "ok")) != "ok" or str(info.get("aof_last_write_status", "ok")) != "ok":
        return failed(
            name, "The server cannot save to disk, so it may refuse every write.", "Check its log and its disk."
        )
    if int(info.get("aof_enabled") or 0):
        return ok(name, "It keeps an append-only file.")
    return warning(
        name,
        "It keeps no append-only file: if it crashes, open events are adopted from the portals and run again.",
        "Set appendonly yes, if repeated runs are expensive for you.",
    )


def _clock(ahead: float) -> Check:
    if abs(ahead) > _CLOCK_SECONDS:
        text = f"It differs from this machine's by {ahead:+.1f} s."
        return warning("ledger clock", text, "Set up time synchronisation on both machines.")
    return ok("ledger clock", f"It differs from this machine's by {abs(ahead):.1f} s.")


def _prefix(strangers: tuple[str, ...], prefix: str) -> Check:
    name = "ledger prefix"
    if strangers:
        return warning(
            name,
            f"Under {prefix} the ledger holds portals that this store does not know: {', '.join(strangers[:5])}.",
            "If another deployment uses this Redis, give one of the two another B24_REDIS_KEY_PREFIX and queues of its "
            "own. If they were pruned from this store, they do no harm.",
        )
    return ok(name, f"All keys under {prefix} belong to portals of this store.")
