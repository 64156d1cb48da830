"""What a sweep knows of every portal before it visits any: whether something waits there, and when it last looked.

Of thousands of portals most are idle at any moment. Hundreds are asked in one round trip, which changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from redis.exceptions import ResponseError

from b24offline import keys
from b24offline.ledger.transitions import clock_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from redis import Redis

Look = Literal["adopt", "redrive"]
"""A look at the portal's records: at the reserved ones for orphans, or at the nacked ones for those that are due."""

_PORTALS_AT_ONCE: Final = 500
_LOOKS: Final[tuple[Look, ...]] = ("adopt", "redrive")


@dataclass(frozen=True, slots=True)
class Glance:
    """What waits at one portal. Moments in milliseconds of the ledger's clock, 0 for never.

    Attributes:
        now_ms: the moment of the glance.
        open_work: a batch is open, or a run or batch has a due time; or the keys that tell cannot be read.
        jobs: a command or the machinery has asked for work.
        unanswered: a reserving call may have left records whose answer is lost.
        lost_ms: when a part of the ledger was found to be lost, or records were reserved that no batch has.
        orphans: reserved records were seen that no batch has.
        failed: records of ours are nacked on the portal.
        seen: how many records were reserved since the ledger began.
        noted_seen: how many a visit has noted.
        active_ms: when a visit noted that records were reserved since the one before.
        looked_ms: the end of the last whole look at what is reserved.
        visited_ms: when a sweep visited it while it was quiet, or asked for a look.
        asked_ms: when each look was asked for.
    """

    now_ms: int
    open_work: bool = False
    jobs: bool = False
    unanswered: bool = False
    lost_ms: int = 0
    orphans: bool = False
    failed: bool = False
    seen: int = 0
    noted_seen: int = 0
    active_ms: int = 0
    looked_ms: int = 0
    visited_ms: int = 0
    asked_ms: Mapping[Look, int] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        """Whether records were reserved that no visit has noted."""
        return self.seen != self.noted_seen

    @property
    def cut_off(self) -> bool:
        """Whether the last look at what is reserved was asked for and has not ended."""
        return self.looked_ms < self.asked_ms.get("adopt", 0)


def glances(redis: Redis, key_prefix: str, portals: Sequence[str]) -> dict[str, Glance]:
    """Return a glance at each of the portals. Raise RedisError where the ledger cannot be reached."""
    found: dict[str, Glance] = {}
    for start in range(0, len(portals), _PORTALS_AT_ONCE):
        page = portals[start : start + _PORTALS_AT_ONCE]
        now_ms = clock_ms(redis)
        with redis.pipeline(transaction=False) as pipe:
            for portal in page:
                stem = keys.stem(key_prefix, portal)
                pipe.exists(keys.batches(stem), keys.due(stem), keys.open_counts(stem))
                pipe.exists(keys.jobs(stem))
                pipe.exists(keys.orphans(stem))
                pipe.exists(keys.nacked(stem), keys.failures(stem))
                pipe.hmget(keys.fencing(stem), ["intent", "poll_until", "unanswered", "whole_since"])
                pipe.hget(keys.look(stem), "ended")
                pipe.hget(keys.stats(stem), "events_seen")
                pipe.hmget(keys.visits(stem), ["last", "surplus", "seen", "active", *_LOOKS])
            replies = iter(pipe.execute(raise_on_error=False))
        found |= {portal: _glance(now_ms, replies) for portal in page}
    return found


def note_visit(redis: Redis, stem: str, glance: Glance, looks: Iterable[Look]) -> None:
    """Note that a sweep visited a portal after a glance, and which looks it asked for."""
    noted: dict[Any, Any] = dict.fromkeys(["last", *looks], glance.now_ms)
    if glance.busy:
        noted |= {"seen": glance.seen, "active": glance.now_ms}
    redis.hset(keys.visits(stem), mapping=noted)


def expect_orphans(redis: Redis, stem: str) -> None:
    """Note that records were reserved that no batch has: unreadable ones, or more than were asked for."""
    redis.hset(keys.visits(stem), "surplus", clock_ms(redis))


def look_soon(redis: Redis, stem: str, look: Look) -> None:
    """Let the next sweep ask for a look."""
    redis.hdel(keys.visits(stem), "last", look)


def _glance(now_ms: int, replies: Iterator[Any]) -> Glance:
    kept = [next(replies) for _ in range(8)]
    if any(isinstance(reply, ResponseError) for reply in kept):
        return Glance(now_ms, open_work=True)  # a visit meets the error, and says of which portal
    work, jobs, orphans, failed, (intent, poll_until, unanswered, lost), looked, seen, visits = kept
    visited, surplus, noted_seen, active, *asked = (int(value or 0) for value in visits)
    # An intent is noted until the answer is known: after the lease nobody waits for that.
    unknown = bool(intent) and int(poll_until or 0) <= now_ms
    return Glance(
        now_ms,
        open_work=bool(work),
        jobs=bool(jobs),
        unanswered=unknown or int(unanswered or 0) > now_ms,
        lost_ms=max(int(lost or 0), surplus),
        orphans=bool(orphans),
        failed=bool(failed),
        looked_ms=int(looked or 0),
        seen=int(seen or 0),
        noted_seen=noted_seen,
        active_ms=active,
        visited_ms=visited,
        asked_ms=dict(zip(_LOOKS, asked, strict=True)),
    )
