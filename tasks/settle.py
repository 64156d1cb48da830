"""Acknowledges and reports a batch, once the last of its outcomes is known."""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError, StoreError
from b24offline.tasks.process import runtime


@shared_task(name=contract.TASK_SETTLE)
def settle(portal: str, process_id: str) -> str:
    """Settles a batch as far as it can be settled now; the sweep asks again for what is left."""
    kit = runtime().kit(portal)
    try:
        told = kit.settler.settle(process_id)
    except (PortalError, PaceExceeded, StoreError) as error:
        kit.lifecycle.note_failure(error)
        return f"later: {type(error).__name__}"
    return f"{told.state}: {told.acknowledged} acknowledged, {told.reported} reported, {told.kept} kept"
