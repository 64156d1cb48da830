"""Start the runs of an open batch."""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.failpoints import failpoint
from b24offline.tasks.chains import fetches
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import publish, send_dispatch, send_settle


@shared_task(name=contract.TASK_DISPATCH)
def dispatch(portal: str, process_id: str) -> str:
    """Read the objects of a batch in bulk, then start its runs. Safe to repeat. Return how many runs were sent."""
    services = current_runtime().services(portal)
    batch = services.dispatcher.start(process_id, fetches)
    if batch.wait_seconds:
        send_dispatch(portal, process_id, lane=batch.lane, wait_seconds=batch.wait_seconds)
        return f"waits {batch.wait_seconds:.0f} s for the portal, {batch.events} events"
    failpoint("dispatch.started")
    sent = publish(services, batch.handed, {run: (event, batch.lane) for run, event in batch.runs.items()})
    if batch.settleable:
        send_settle(portal, process_id)
    return f"{sent} of {len(batch.runs)} runs sent, {batch.events} events"
