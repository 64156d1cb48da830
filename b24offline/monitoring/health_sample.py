"""What the ledger says of portals: counts, and the ages of what should not grow old. Calls no portal.

Every reserved record ends acknowledged, nacked or adopted, and the age of the oldest one is bounded. `health` compares
these ages with their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.config import Timers
from b24offline.ledger import (
    BatchKind,
    Ledger,
    Reading,
    Reconciled,
    memory_share,
    noted_broker,
    noted_refused_messages,
    read_portals,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

    from b24offline.ledger import OpenBatch

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
        broker_full: why no portal is polled for the sake of the broker; "" when none is kept waiting.
        broker_unseen: why the broker does not tell what waits in it; "" when it does.
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
    broker_full: str = ""
    broker_unseen: str = ""
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


@dataclass(frozen=True, slots=True)
class Samples:
    """All portals at one moment. ``portals``: name -> its sample; ``readings``: name -> what that was made from, where
    this version may read its ledger."""

    portals: dict[str, HealthSample]
    readings: dict[str, Reading]


def take_sample(redis: Redis, ledger: Ledger) -> HealthSample:
    """Read the ledger of one portal. Raises RedisError."""
    return take_samples(redis, ledger.key_prefix, [ledger.portal]).portals[ledger.portal]


def take_samples(redis: Redis, key_prefix: str, portals: Sequence[str]) -> Samples:
    """Read the ledgers of portals, in a round trip for a hundred of them. Raises RedisError."""
    if not portals:
        return Samples({}, {})
    planned: dict[str, float | None] = dict(
        zip(portals, redis.zmscore(keys.polls(key_prefix), list(portals)), strict=True)
    )
    share, refused_messages = memory_share(redis.info("memory")), noted_refused_messages(redis, key_prefix)
    full, unseen = noted_broker(redis, key_prefix)
    samples: dict[str, HealthSample] = {}
    readings: dict[str, Reading] = {}
    for name, reading in read_portals(redis, key_prefix, portals):
        if isinstance(reading, Reading):
            readings[name] = reading
            sample = _sample(reading, planned.get(name))
            if sample.full_lanes:
                ledger = Ledger(redis, key_prefix, name, Timers())
                sample = replace(sample, held_by={lane: _oldest_objects(ledger, lane) for lane in sample.full_lanes})
        else:
            sample = HealthSample(other_schema=str(reading))
        shared = replace(sample, broker_full=full, broker_unseen=unseen)
        samples[name] = replace(shared, memory_share=share, refused_messages=refused_messages)
    return Samples(samples, readings)


def _sample(reading: Reading, planned_ms: float | None) -> HealthSample:
    """Return what a reading says. Pure."""
    age = reading.seconds_since
    batches = reading.batches
    others = (BatchKind.RETRYING, BatchKind.DEAD_LETTERED, BatchKind.SYNTHETIC)
    orphans = [age(first) for first in reading.orphans_ms]
    return HealthSample(
        open_batches={
            batch.process_id: age(batch.opened_ms) for batch in batches if batch.kind != BatchKind.DEAD_LETTERED
        },
        overdue_runs=reading.overdue_runs,
        next_poll_seconds=None if planned_ms is None else -age(int(planned_ms)),
        counters=reading.counters,
        oldest_seconds=_oldest(reading, [batch for batch in batches if batch.kind not in others]),
        oldest_retrying_seconds=_oldest(reading, [batch for batch in batches if batch.kind == BatchKind.RETRYING]),
        orphans=len(orphans),
        oldest_orphan_seconds=max(orphans, default=0.0),
        unlooked_seconds=0.0 if reading.looked_ms is None else age(reading.looked_ms),
        unreadable=reading.unreadable or 0,
        oversized=reading.oversized or "",
        refused=reading.refused or (),
        reconciled=reading.reconciled,
        unreconciled_seconds=reading.unreconciled_seconds,
        full_lanes={lane: age(since) for lane, since in reading.full.items()},
        silent={calls: age(since) for calls, since in reading.silent.items()},
    )


def _oldest(reading: Reading, batches: Sequence[OpenBatch]) -> float:
    return max((reading.seconds_since(batch.seen_ms) for batch in batches), default=0.0)


def _oldest_objects(ledger: Ledger, lane: str) -> tuple[str, ...]:
    """Return the objects of the oldest open batches of a lane."""
    names: list[str] = []
    for process_id in ledger.open_batches():
        if ledger.lane(process_id) == lane and ledger.kind(process_id) in (BatchKind.POLLED, BatchKind.ADOPTED):
            names += [str(event.object or event.name) for event in ledger.events(process_id).values()]
        if len(names) >= NAMED:
            break
    return tuple(names[:NAMED])
