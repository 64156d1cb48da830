"""What was read, as families of metrics. Pure.

Counters of removed portals are in those of the deployment, so that sums never fall while the ledger lives.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from b24offline.counters import histogram
from b24offline.ledger import BatchKind
from b24offline.metrics.catalogue import DEFINITIONS
from b24offline.monitoring import IssueCode, statuses_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

    from b24offline.config import Config
    from b24offline.metrics.sources import LedgerFacts
    from b24offline.monitoring import HealthSample, PortalStatus, StoredPortals
    from b24offline.tasks.broker_readers import QueueDepth

_LATE_SECONDS: Final = 5.0
_RUN_STATES: Final = ("ready", "running", "waiting", "dead_lettered")
_TASKS: Final = ("tick", "sweep", "poll", "adopt", "redrive", "reconcile", "inject")
_REASONS: Final = ("blocked", "paused", "full", "slow", "silent")
_COUNTED: Final = {
    "events_reserved_total": "events_seen",
    "events_synthetic_total": "events_synthetic",
    "runs_retried_total": "runs_retried",
    "runs_crashed_total": "runs_crashed",
    "runs_swept_total": "runs_swept",
    "runs_dead_lettered_total": "runs_dead_lettered",
    "runs_redriven_total": "runs_redriven",
}
"""Metric -> field of the counters."""

Values = Mapping[tuple[str], float] | Mapping[tuple[str, str], float]


def family(name: str, values: float | Values) -> Metric:
    """Return a family; ``values``: labels -> value, or the one value of a metric without labels."""
    made: GaugeMetricFamily | CounterMetricFamily = DEFINITIONS[name].family()
    for labels, value in ({(): values} if isinstance(values, int | float) else values).items():
        made.add_metric(labels, value)
    return made


def _histograms(
    name: str, counters: Mapping[str, int], fields: Mapping[tuple[str], str] | None = None, field: str = ""
) -> Metric:
    made: HistogramMetricFamily = DEFINITIONS[name].family()
    for labels, counted in fields.items() if fields else [((), field)]:
        made.add_metric(labels, *histogram(counters, counted))
    return made


def store_families(stored: StoredPortals, now: datetime) -> Iterator[Metric]:
    """Yield what the store says. ``now``: aware."""
    served = [portal for portal in stored.portals if portal.served]
    states = Counter((portal.desired_state.value, portal.state.value) for portal in served)
    yield family("portals", dict(states))
    yield family("dead_letters", sum(stored.dead_letters.get(portal.name, 0) for portal in served))
    ages = [(now - portal.authorized_at).total_seconds() for portal in served]
    yield family("authorization_age_seconds", max(ages, default=0.0))


def issue_family(stored: StoredPortals, samples: Mapping[str, HealthSample], config: Config) -> Metric:
    """Return how many portals have an issue of each code; every code is there. No sample: the ledger cannot be read."""
    statuses: Iterable[PortalStatus] = statuses_of(stored, samples, config)
    found = Counter(code for status in statuses for code in {issue.code for issue in status.issues})
    return family("issues", {(code.value,): found[code] for code in IssueCode})


def ledger_families(facts: LedgerFacts) -> Iterator[Metric]:
    """Yield what the ledger says of the portals."""
    counters: Counter[str] = Counter(facts.counters)
    for reading in facts.readings.values():
        counters.update(reading.counters)
    yield from _counted(counters)
    yield from _works(facts)
    yield from _polls(facts)
    yield from _sizes(facts)


def deployment_families(facts: LedgerFacts) -> Iterator[Metric]:
    """Yield what the ledger says of the deployment as a whole."""
    fields = {(task,): f"queued:{task}" for task in _TASKS}
    yield _histograms("message_queue_seconds", facts.counters, fields)
    read = {(task,): facts.counters[f"read:{task}"] / 1000 for task in _TASKS if f"read:{task}" in facts.counters}
    yield family("last_message_timestamp_seconds", read)
    none: dict[tuple[str], float] = {(task,): 0 for task in _TASKS}
    yield family("queued_messages", none | {(task,): of.count for task, of in facts.queued.items()})
    yield family(
        "oldest_queued_message_seconds", none | {(task,): of.oldest_seconds for task, of in facts.queued.items()}
    )
    yield family("ledger_used_bytes", facts.used_bytes)
    yield family("ledger_memory_share", facts.memory_share)
    yield family("ledger_scripts_total", facts.scripts)
    yield family("ledger_script_seconds_total", facts.script_seconds)


def broker_families(queues: Mapping[str, QueueDepth]) -> Iterator[Metric]:
    """Yield what the broker says of our queues."""
    yield family("queue_messages", {(name,): depth.messages for name, depth in queues.items()})
    ages = {(name,): of.oldest_seconds for name, of in queues.items() if of.oldest_seconds is not None}
    yield family("queue_oldest_message_seconds", ages)


def _counted(counters: Mapping[str, int]) -> Iterator[Metric]:
    for name, field in _COUNTED.items():
        yield family(name, counters.get(field, 0))
    superseded = counters.get("events_superseded", 0)
    settled = {"acknowledged": counters.get("events_acknowledged", 0) - superseded, "superseded": superseded}
    settled["nacked"] = counters.get("events_nacked", 0)
    yield family("events_settled_total", {(outcome,): count for outcome, count in settled.items()})
    outcomes = ("succeeded", "failed", "superseded", "dropped")
    yield family("runs_ended_total", {(name,): counters.get(f"runs_{name}", 0) for name in outcomes})
    kinds = [kind for kind in BatchKind if kind is not BatchKind.DEAD_LETTERED]
    yield family("batches_opened_total", {(kind.value,): counters.get(f"batches_{kind}", 0) for kind in kinds})
    yield family("batches_ended_total", {(how,): counters.get(f"batches_{how}", 0) for how in ("closed", "forgotten")})
    yield family("calls_turned_away_total", {(why,): counters.get(f"turned_away:{why}", 0) for why in _REASONS})
    requests: dict[tuple[str, str], float] = {}
    for name, count in counters.items():
        if name.startswith("requests:"):
            _, method, outcome = name.split(":", 2)
            requests[method, outcome] = count
    yield family("requests_total", requests)
    yield _histograms("request_duration_seconds", counters, field="request")
    yield _histograms("acknowledgement_seconds", counters, field="reserved")
    yield _histograms("step_queue_seconds", counters, field="step_queued")
    yield _histograms("call_wait_seconds", counters, {("rate_limit",): "wait:rate", ("slot",): "wait:slot"})


def _works(facts: LedgerFacts) -> Iterator[Metric]:
    readings = facts.readings.values()
    runs: Counter[str] = Counter(dict.fromkeys(_RUN_STATES, 0))
    batches = Counter({kind.value: 0 for kind in BatchKind})
    oldest: dict[str, float] = defaultdict(float, {kind.value: 0.0 for kind in BatchKind})
    for reading in readings:
        runs.update(reading.runs)
        for batch in reading.batches:
            batches[batch.kind] += 1
            oldest[batch.kind] = max(oldest[batch.kind], reading.seconds_since(batch.seen_ms))
    yield family("runs", {(state,): count for state, count in runs.items()})
    yield family("batches", {(kind,): count for kind, count in batches.items()})
    yield family("oldest_batch_seconds", {(kind,): age for kind, age in oldest.items()})
    yield family("runs_overdue", sum(reading.overdue_runs for reading in readings))
    places = {
        "nacked": sum(len(of.nacked_ms) for of in readings),
        "unadopted": sum(len(of.orphans_ms) for of in readings),
    }
    yield family("records_waiting", {(place,): count for place, count in places.items()})
    samples = facts.samples.values()
    yield family("oldest_reserved_seconds", max((of.oldest_reserved_seconds for of in samples), default=0.0))
    yield family("oldest_unadopted_seconds", max((of.oldest_orphan_seconds for of in samples), default=0.0))
    nacked = [reading.seconds_since(min(reading.nacked_ms)) for reading in readings if reading.nacked_ms]
    yield family("oldest_nacked_seconds", max(nacked, default=0.0))
    sent = [of.seconds_since(of.oldest_sent_ms) for of in readings if of.oldest_sent_ms is not None]
    yield family("oldest_queued_step_seconds", max(sent, default=0.0))
    yield family("not_looked_at", sum(reading.unread for reading in readings))


def _polls(facts: LedgerFacts) -> Iterator[Metric]:
    samples = list(facts.samples.values())
    late = [-of.next_poll_seconds for of in samples if of.next_poll_seconds is not None]
    yield family("polls_late", sum(seconds > _LATE_SECONDS for seconds in late))
    yield family("poll_late_seconds", max((*late, 0.0)))
    yield family("silent_circuits", sum(len(sample.silent) for sample in samples))
    yield family("full_lanes", sum(len(sample.full_lanes) for sample in samples))
    yield family("subscriptions_missing", sum(len(sample.refused) for sample in samples))
    yield family("unreadable_records", sum(sample.unreadable for sample in samples))


def _sizes(facts: LedgerFacts) -> Iterator[Metric]:
    readings = facts.readings.values()
    each = [
        sum(int(value) for name, value in reading.open_counts.items() if name.startswith("bytes:"))
        for reading in readings
    ]
    yield family("event_bytes", sum(each))
    yield family("portal_event_bytes", max(each, default=0))
    yield family("cached_object_bytes", sum(reading.cached_bytes or 0 for reading in readings))


def now_utc() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
