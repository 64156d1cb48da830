"""What the exporter reads: store, ledger and broker, never a portal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b24offline.contract import QUEUES
from b24offline.ledger import deployment_counters, queued_tasks
from b24offline.monitoring import HealthSample, StoredPortals, take_samples
from b24offline.tasks.broker_readers import QueueDepth, queue_depths

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from redis import Redis

    from b24offline.config import Config
    from b24offline.ledger import QueuedTask, Reading
    from b24offline.store import Store


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What the ledger says.

    Attributes:
        samples: portal -> its health, of those that are served.
        readings: portal -> what was read of it, also of removed ones.
        counters: of the deployment.
        queued: task -> its messages in the queue of polls.
        used_bytes: memory of the server.
        scripts: how many it ran.
        script_seconds: how long these took.
    """

    samples: Mapping[str, HealthSample]
    readings: Mapping[str, Reading]
    counters: Mapping[str, int] = field(default_factory=dict)
    queued: Mapping[str, QueuedTask] = field(default_factory=dict)
    used_bytes: int = 0
    scripts: int = 0
    script_seconds: float = 0.0

    @property
    def memory_share(self) -> float:
        """The part of the memory of the ledger's server that is used; the same for all portals."""
        return next((sample.memory_share for sample in self.samples.values()), 0.0)

    def only(self, portal: str) -> LedgerFacts:
        """Return what belongs to one portal."""
        return LedgerFacts(
            {name: sample for name, sample in self.samples.items() if name == portal},
            {name: reading for name, reading in self.readings.items() if name == portal},
        )


def read_store(store: Store) -> StoredPortals:
    """Return all portals, removed ones too. Raises StoreError."""
    return StoredPortals(store.portals.list(secret=False), store.dead_letters.counts(), store.portals.unopened())


def read_ledger(redis: Redis, key_prefix: str, portals: Sequence[str], served: Collection[str]) -> LedgerFacts:
    """Read the ledgers of these portals, and what there is once a deployment. Raises RedisError.

    ``served``: those that are not removed.
    """
    samples = take_samples(redis, key_prefix, portals)
    commands, memory = redis.info("commandstats"), redis.info("memory")
    ran: list[Mapping[str, Any]] = [commands.get(f"cmdstat_{name}", {}) for name in ("eval", "evalsha")]
    return LedgerFacts(
        samples={name: sample for name, sample in samples.portals.items() if name in served},
        readings=samples.readings,
        counters=deployment_counters(redis, key_prefix),
        queued=queued_tasks(redis, key_prefix),
        used_bytes=int(memory["used_memory"]),
        scripts=sum(int(found.get("calls", 0)) for found in ran),
        script_seconds=sum(int(found.get("usec", 0)) for found in ran) / 1e6,
    )


def read_broker(config: Config) -> Mapping[str, QueueDepth]:
    """Return our queues, those of the lanes too. Raises BrokerUnavailable."""
    return queue_depths(config.broker_url, {*QUEUES, *(lane.queue for lane in config.all_lanes.values())})
