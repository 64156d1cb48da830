"""Beat's sweep: what is overdue starts again, and what is due at a portal is asked for; the adoption of orphans."""

from __future__ import annotations

from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.delivery import PortalServices
from b24offline.errors import StoreError
from b24offline.ledger import RECONCILE, RUN, Overdue
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import publish, send_dispatch, send_settle
from b24offline.tasks.queue_depth import no_step_waits

TASKS: Final = {
    "adopt": contract.TASK_ADOPT,
    "redrive": contract.TASK_REDRIVE,
    RUN: contract.TASK_INJECT,
    RECONCILE: contract.TASK_RECONCILE,
}
"""Kind of work that can be due at a portal -> the task that does it."""


@shared_task(name=contract.TASK_SWEEP)
def sweep() -> str:
    """Look at every portal once. Return what was overdue."""
    runtime = current_runtime()
    sent_ms = runtime.queued.take(contract.TASK_SWEEP)

    def ask(portal: str, work: str) -> None:
        for name in runtime.queued.begin(TASKS[work], [portal], sent_ms):
            sweep.app.send_task(TASKS[work], args=(name,), queue=contract.QUEUE_POLL)

    return runtime.rounds.sweep(_start, ask, no_step_waits)


def _start(services: PortalServices, overdue: Overdue) -> int:
    """Send what is overdue at one portal. Return how many runs were sent."""
    for process_id in overdue.batches:
        send_settle(services.portal.name, process_id)
    return publish(services, overdue.runs)


@shared_task(name=contract.TASK_ADOPT)
def adopt(portal: str) -> str:
    """Adopt the reserved records of a portal that no batch of ours has. Return how many batches that were."""
    current_runtime().queued.take(contract.TASK_ADOPT, portal)
    services = current_runtime().services(portal)
    if not services.portal.polled:
        return f"not adopted: {services.portal.desired_state}"
    try:
        adopted = services.poller.adopt()
    except StoreError as error:
        return f"later: {type(error).__name__}"
    for process_id in adopted:
        send_dispatch(portal, process_id)
    return f"adopted {len(adopted)}"
