"""One reading of a portal's ledger: counts, and the ages of what should not grow old. Calls no portal.

Every reserved record ends acknowledged, nacked or adopted, and the age of the oldest one is bounded. `health` compares
these ages with their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.ledger import (
    RECONCILE,
    BatchKind,
    JobQueue,
    Reconciled,
    last_reconciled,
    memory_share,
    noted_oversized,
    noted_refused,
    noted_refused_messages,
    noted_unreadable,
    other_schema,
    silent_circuits,
)

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import Ledger


NAMED: Final = 5
"""Objects that are named of those that keep a lane full."""


@dataclass(frozen=True, slots=True)
class HealthSample:
    """What the ledger knows of a portal. Ages in seconds, 0.0 where there is nothing.

    Attributes:
        open_batches: process id -> age; without dead-lettered ones.
        overdue_runs: runs that the next sweep starts again.
        next_poll_seconds: until the next poll, negative when it is late; None when none is scheduled.
        counters: since the ledger began.
        oldest_seconds: age of the oldest batch whose records have not failed.
        oldest_retrying_seconds: age of the oldest batch whose record failed and is retried.
        orphans: reserved records' batches that the ledger does not know.
        oldest_orphan_seconds: since the oldest of them was seen first.
        unlooked_seconds: since the last whole look at all reserved records.
        unreadable: reserved records that cannot be acknowledged, as the last look at the portal's list counted them.
        oversized: what the portal sent lately that was larger than it may be; "" when nothing was.
        memory_share: part of the memory of the ledger's Redis that is used, 0.0 where it has no bound.
        refused: names of events that the portal refused to subscribe.
        refused_messages: messages of the broker that were refused lately, of the whole deployment.
        reconciled: how the last reconciliation ended; None when the ledger knows of none.
        other_schema: why this version may not work on the ledger; "" when it may.
        full_lanes: lanes that have as many open batches as they may -> since how many seconds.
        held_by: objects of the oldest open batches of these lanes, at most `NAMED`.
        silent: calls that the portal does not answer -> since how many seconds.
        unreconciled_seconds: age of the oldest request for a reconciliation that has not ended.
    """

    open_batches: dict[str, float] = field(default_factory=dict)
    overdue_runs: int = 0
    next_poll_seconds: float | None = None
    counters: dict[str, int] = field(default_factory=dict)
    oldest_seconds: float = 0.0
    oldest_retrying_seconds: float = 0.0
    orphans: int = 0
    oldest_orphan_seconds: float = 0.0
    unlooked_seconds: float = 0.0
    unreadable: int = 0
    oversized: str = ""
    memory_share: float = 0.0
    refused: tuple[str, ...] = ()
    refused_messages: int = 0
    reconciled: Reconciled | None = None
    other_schema: str = ""
    unreconciled_seconds: float = 0.0
    full_lanes: dict[str, float] = field(default_factory=dict)
    held_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    silent: dict[str, float] = field(default_factory=dict)

    @property
    def oldest_reserved_seconds(self) -> float:
        """The age of the oldest reservation, dead-lettered ones apart."""
        return max(self.oldest_seconds, self.oldest_retrying_seconds, self.oldest_orphan_seconds)


def take_sample(redis: Redis, ledger: Ledger, key_prefix: str) -> HealthSample:
    """Read the ledger of one portal. Raises RedisError."""
    now = ledger.now_ms()
    planned = redis.zscore(keys.polls(key_prefix), ledger.portal)
    new, retrying = _batch_ages(redis, ledger, now)
    full = {str(lane): int(since) for lane, since in redis.hgetall(keys.full(ledger.stem)).items()}
    orphans = [(now - int(first)) / 1000 for first in redis.hvals(keys.orphans(ledger.stem))]
    return HealthSample(
        open_batches={pid: (now - opened) / 1000 for pid, opened in ledger.working_batches().items()},
        overdue_runs=ledger.overdue_runs(),
        next_poll_seconds=None if planned is None else (planned - now) / 1000,
        counters=ledger.counters(),
        oldest_seconds=max(new, default=0.0),
        oldest_retrying_seconds=max(retrying, default=0.0),
        orphans=len(orphans),
        oldest_orphan_seconds=max(orphans, default=0.0),
        unlooked_seconds=(now - int(redis.hget(keys.look(ledger.stem), "ended") or now)) / 1000,
        unreadable=noted_unreadable(redis, ledger),
        oversized=noted_oversized(redis, ledger),
        memory_share=memory_share(redis),
        refused=noted_refused(redis, ledger),
        refused_messages=noted_refused_messages(redis, key_prefix),
        reconciled=last_reconciled(redis, ledger.stem),
        other_schema=str(other_schema(redis, key_prefix, [ledger.portal]) or ""),
        unreconciled_seconds=JobQueue(redis, ledger).oldest_seconds(RECONCILE),
        full_lanes={name: (now - since) / 1000 for name, since in full.items()},
        held_by={name: _oldest_objects(ledger, name) for name in full},
        silent={calls: (now - since) / 1000 for calls, since in silent_circuits(redis, ledger).items()},
    )


def _oldest_objects(ledger: Ledger, lane: str) -> tuple[str, ...]:
    """Return the objects of the oldest open batches of a lane."""
    names: list[str] = []
    for process_id in ledger.open_batches():
        if ledger.lane(process_id) == lane and ledger.kind(process_id) in (BatchKind.POLLED, BatchKind.ADOPTED):
            names += [str(event.object or event.name) for event in ledger.events(process_id).values()]
        if len(names) >= NAMED:
            break
    return tuple(names[:NAMED])


def _batch_ages(redis: Redis, ledger: Ledger, now_ms: int) -> tuple[list[float], list[float]]:
    """Return the ages of batches that have not failed, and of those that are retried."""
    new: list[float] = []
    retrying: list[float] = []
    with redis.pipeline(transaction=False) as pipe:
        for process_id in ledger.open_batches():
            pipe.hmget(keys.batch(ledger.stem, process_id), ["kind", "first_seen", "redriven"])
        rows = pipe.execute()
    for kind, seen, redriven in rows:
        if seen and kind not in (BatchKind.DEAD_LETTERED, BatchKind.SYNTHETIC):
            # A dead letter that an operator redrives gets all its time again.
            (retrying if kind == BatchKind.RETRYING else new).append((now_ms - int(redriven or seen)) / 1000)
    return new, retrying
