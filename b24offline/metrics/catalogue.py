"""Every metric of the exporter: its name, kind, meaning and labels. The source of `docs/metrics.md`.

Names and units follow Prometheus' conventions: base units, counters that end in ``_total``. Where several portals are
summed up, ``of`` says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

PREFIX: Final = "b24offline_"

Kind = Literal["counter", "gauge", "histogram"]
_FAMILIES: Final[dict[Kind, Any]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. ``of``: what several portals make of it, "sum" or "max"; "" for one of the deployment as a whole."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    of: Literal["sum", "max", ""] = "sum"

    @property
    def full_name(self) -> str:
        """The name as Prometheus knows it; of a histogram without its endings."""
        return PREFIX + self.name

    def family(self) -> Any:
        """Return a family without values, of the class for its kind."""
        return _FAMILIES[self.kind](self.full_name, self.help, labels=self.labels)


def _gauge(name: str, help_: str, *labels: str, of: Literal["sum", "max", ""] = "sum") -> Definition:
    return Definition(name, "gauge", help_, labels, of)


def _counter(name: str, help_: str, *labels: str, of: Literal["sum", "max", ""] = "sum") -> Definition:
    return Definition(name, "counter", help_, labels, of)


def _histogram(name: str, help_: str, *labels: str, of: Literal["sum", "max", ""] = "sum") -> Definition:
    return Definition(name, "histogram", help_, labels, of)


EXPORTER: Final = (
    _gauge("up", "Whether ledger, store and broker could be read in time: 1 or 0.", "part", of=""),
    _gauge("snapshot_age_seconds", "Age of what is shown of a part; absent while it is not up.", "part", of=""),
    _gauge("snapshot_duration_seconds", "How long the last reading of a part took.", "part", of=""),
)
STORE: Final = (
    _gauge("portals", "Portals by what the operator wants and what their answers say.", "desired_state", "state"),
    _gauge("dead_letters", "Open dead letters: each waits for a person."),
    _gauge("authorization_age_seconds", "Age of the oldest authorization by a person.", of="max"),
    _gauge("issues", "Portals with an issue of this code, as b24offline status names them.", "code"),
)
EVENTS: Final = (
    _counter("events_reserved_total", "Records that were reserved and opened, adopted and retried ones too."),
    _counter("events_synthetic_total", "Events without a record: reconciliation and b24offline trigger."),
    _counter("events_settled_total", "Records that left the queue or were nacked, by which.", "outcome"),
    _histogram("acknowledgement_seconds", "From the reservation of a record to its acknowledgement."),
    _counter("runs_ended_total", "Runs by their outcome.", "outcome"),
    _counter("runs_retried_total", "Waits for another try, of a step or of a run."),
    _counter("runs_crashed_total", "Runs that lost their lease or their process."),
    _counter("runs_swept_total", "Runs that the sweep handed out again: lost messages, ended waits."),
    _counter("runs_dead_lettered_total", "Runs that were given up until a person acts."),
    _counter("runs_redriven_total", "Runs that a person let start again."),
    _gauge("runs", "Runs that are not final, by state.", "state"),
    _gauge("runs_overdue", "Runs that the next sweep starts again."),
    _counter("batches_opened_total", "Batches by why they were opened.", "kind"),
    _counter("batches_ended_total", "Batches by how they ended: closed, or forgotten as damaged.", "how"),
    _gauge("batches", "Open batches by kind.", "kind"),
    _gauge("oldest_batch_seconds", "Age of the oldest open batch by kind.", "kind", of="max"),
    _gauge("records_waiting", "Records that wait on the portal: nacked and free, or reserved and unadopted.", "place"),
    _gauge("oldest_reserved_seconds", "Age of the oldest reservation, dead-lettered ones apart.", of="max"),
    _gauge("oldest_nacked_seconds", "Age of the oldest nacked record, since it was seen first.", of="max"),
    _gauge("oldest_unadopted_seconds", "Age of the oldest orphan, since it was seen first.", of="max"),
    _gauge("not_looked_at", "Open batches and due times beyond the bound of a reading: other gauges lack them."),
)
PORTALS: Final = (
    _counter(
        "requests_total", "Requests to portals; outcome: answered, or the class of the error.", "method", "outcome"
    ),
    _histogram("request_duration_seconds", "From the sending of a request to its answer or its end."),
    _histogram("call_wait_seconds", "What a call waited before it was sent, for the rate limit or a slot.", "reason"),
    _counter("calls_turned_away_total", "Calls that were not sent and come back; silent: open circuit.", "reason"),
    _gauge("silent_circuits", "Circuits that are open: kinds of calls that a portal does not answer."),
    _gauge("polls_late", "Portals whose poll is overdue by more than 5 seconds."),
    _gauge("poll_late_seconds", "How late the latest overdue poll is.", of="max"),
    _gauge("full_lanes", "Lanes that are not polled as they have as many open batches as they may."),
    _gauge("subscriptions_missing", "Events with a route that the portal refused to subscribe."),
    _gauge("unreadable_records", "Reserved records that cannot be read."),
)
LEDGER: Final = (
    _gauge("event_bytes", "Bytes of the open events in the ledger."),
    _gauge("portal_event_bytes", "The same of the portal that has most.", of="max"),
    _gauge("cached_object_bytes", "Bytes of the objects that were cached lately."),
    _gauge("ledger_used_bytes", "Memory that the Redis of the ledger uses.", of=""),
    _gauge("ledger_memory_share", "Part of its maxmemory that is used; 0 without one.", of=""),
    _counter("ledger_scripts_total", "Scripts that the Redis of the ledger ran, for whomever.", of=""),
    _counter("ledger_script_seconds_total", "Time that they took on the server.", of=""),
)
MESSAGES: Final = (
    _histogram("step_queue_seconds", "From the handing out of a run, or the end of a step, to the next step's begin."),
    _gauge(
        "oldest_queued_step_seconds", "For how long a run that was handed out has been waiting for a worker.", of="max"
    ),
    _histogram("message_queue_seconds", "How long a message of the queue of polls waited.", "task", of=""),
    _gauge(
        "last_message_timestamp_seconds",
        "When a worker read such a message last, by the ledger's clock.",
        "task",
        of="",
    ),
    _gauge("queued_messages", "Messages of the queue of polls that were sent and not read.", "task", of=""),
    _gauge("oldest_queued_message_seconds", "Age of the oldest of them.", "task", of=""),
    _gauge("queue_messages", "Messages in a queue of ours, as the broker counts them.", "queue", of=""),
    _gauge("queue_oldest_message_seconds", "Age of its oldest message; on a Redis broker only.", "queue", of=""),
)
GROUPS: Final = {
    "The exporter": EXPORTER,
    "Portals and what a person must do": STORE,
    "Events, runs and batches": EVENTS,
    "Calls to portals": PORTALS,
    "The ledger": LEDGER,
    "Messages and queues": MESSAGES,
}
DEFINITIONS: Final = {definition.name: definition for group in GROUPS.values() for definition in group}
