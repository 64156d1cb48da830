"""Row 40: guards around single objects, and around what others put into the broker."""

from __future__ import annotations

import kombu

from b24offline.contract import QUEUE_EVENTS, TASK_TICK
from tests.faults.row import UNEXPECTED
from tests.faults.rows_broker_safety import VICTIM, forged, victim_of, waiting
from tests.faults.rows_guards import without
from tests.faults.rows_guards_queue import comes
from tests.faults.rows_isolation import nack_a_newer_change
from tests.faults.stage import Stage

SCALE = 0.005
"""A run that is refused for four hours fails after 72 s."""


@without("age of runs that the portal refuses", red=("stuck",), drain_seconds=10, scale=SCALE)
def refused_without_end(stage: Stage) -> None:
    """The portal answers for no object at all; with the guard on the record is nacked after its age."""
    for method in ("crm.deal.get", "batch/crm.deal.get"):
        stage.control.fault(method, "error", status=500)
    stage.change(1)
    stage.noted("the portal refuses all objects")
    age_seconds = stage.runtime.timers.outage_seconds + stage.runtime.timers.in_doubt_seconds
    comes(lambda: stage.counters.get("events_nacked", 0), 2 * age_seconds)


@without("key of nacked records", "one key for a record before and after its nack", red=(UNEXPECTED,), drain_seconds=60)
def one_key_for_two_changes(stage: Stage) -> None:
    nack_a_newer_change(stage)


@without("callbacks stripped", "sending on what a message asks for", red=(UNEXPECTED,), drain_seconds=60)
def callbacks_sent_on(stage: Stage) -> None:
    stage.settle_some()
    with kombu.Connection(stage.broker.url) as connection, connection.channel() as channel:
        victim = victim_of(channel)
        tick = {"task": TASK_TICK, "id": "forged", "retries": 0, "argsrepr": "", "kwargsrepr": ""}
        producer = connection.Producer(channel)
        producer.publish(forged(callbacks=1), exchange="", routing_key=QUEUE_EVENTS, serializer="json", headers=tick)
        stage.noted(f"a message that asks for another one to {VICTIM}")
        comes(lambda: waiting(victim), 30)
        stage.expect(not waiting(victim), "a message was sent to another stack")
