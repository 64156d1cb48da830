"""Acknowledge and nack the records of a batch, once its last outcome is known."""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.errors import PortalError, RateLimited, StoreError
from b24offline.tasks.process import current_runtime


@shared_task(name=contract.TASK_SETTLE)
def settle(portal: str, process_id: str) -> str:
    """Settle a batch as far as possible now; the sweep asks again for the rest. Return what was done."""
    services = current_runtime().services(portal)
    try:
        reply = services.settler.settle(process_id)
    except (PortalError, RateLimited, StoreError) as error:
        services.lifecycle.note_failure(error)
        return f"later: {type(error).__name__}"
    return f"{reply.state}: {reply.acknowledged} acknowledged, {reply.nacked} nacked, {reply.kept} kept"
