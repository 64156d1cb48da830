"""Beat's tick, and the poll of one portal."""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.failpoints import failpoint
from b24offline.tasks.bind import bind
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import send_dispatch
from b24offline.tasks.queue_depth import broker_load
from b24offline.tasks.sweep import sweep


@shared_task(name=contract.TASK_TICK)
def tick() -> str:
    """Ask for a poll of every portal that is due. Return which."""
    runtime = current_runtime()
    sent_ms = runtime.queued.take(contract.TASK_TICK)
    runtime.ensure_configured_portal()
    runtime.broker_gate.look(broker_load)
    due = runtime.rounds.take_due_polls()
    for portal in due.subscriptions:
        bind.delay(portal)
    for portal in runtime.queued.begin(contract.TASK_POLL, due.polls, sent_ms):
        poll.delay(portal)
    if due.sweep:
        sweep.delay()
    return due.reply


@shared_task(name=contract.TASK_POLL)
def poll(portal: str) -> str:
    """Poll one portal, and ask for the dispatch of the batches that were opened. Return what happened."""
    runtime = current_runtime()
    runtime.queued.take(contract.TASK_POLL, portal)
    services = runtime.services(portal)
    if not services.portal.polled:
        return f"not polled: {services.portal.desired_state}"
    turn = services.polls.take()
    for process_id in turn.opened:
        failpoint("poll.opened")
        send_dispatch(portal, process_id, lane=turn.lane)
    if turn.subscribe:
        bind.delay(portal)
    if turn.again and runtime.queued.begin(contract.TASK_POLL, [portal]):
        poll.delay(portal)
    return turn.reply
