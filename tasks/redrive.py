"""Run nacked events again.

A nacked record is reserved and retried with growing waits until it succeeds, then acknowledged. It is never nacked a
second time, because that would delete a newer record of the same message.
"""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.errors import PortalError, RateLimited, StoreError
from b24offline.tasks.chains import fetches
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import send_dispatch


@shared_task(name=contract.TASK_REDRIVE)
def redrive(portal: str) -> str:
    """Take nacked records whose wait is over, and run them as retrying ones. Return how many."""
    current_runtime().queued.take(contract.TASK_REDRIVE, portal)
    services = current_runtime().services(portal)
    if not services.portal.polled:
        return f"not redriven: {services.portal.desired_state}"
    if services.portal.ledger_epoch is None:
        # Before the first poll it is unknown whether the queue belongs to another deployment.
        return "not redriven: not polled yet"
    taken = 0
    try:
        for process_id in services.redriver.turn(fetches):
            send_dispatch(portal, process_id)
            taken += 1
    except (PortalError, RateLimited, StoreError) as error:
        return f"later: {type(error).__name__}"
    return f"redriven {taken}"
