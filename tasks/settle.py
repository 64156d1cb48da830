"""Acknowledge and nack the records of a batch, once its last outcome is known."""

from __future__ import annotations

from contextlib import suppress

from celery import shared_task

from b24offline import contract
from b24offline.delivery import retry_policy
from b24offline.errors import BrokerUnavailable, PortalError, RateLimited, StoreError
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import send_poll, send_settle


@shared_task(name=contract.TASK_SETTLE)
def settle(portal: str, process_id: str) -> str:
    """Settle a batch as far as possible now; the sweep asks again for the rest. Return what was done."""
    runtime = current_runtime()
    services = runtime.services(portal)
    try:
        reply = services.settler.settle(process_id)
    except (PortalError, RateLimited, StoreError) as error:
        services.lifecycle.note_failure(error)
        if type(error) is RateLimited and error.wait_seconds <= retry_policy.LONGEST_REPEAT_SECONDS:
            # A busy portal acknowledges at its own pace. Of a silent or blocked one the batch's due time asks again.
            send_settle(portal, process_id, wait_seconds=error.wait_seconds)
        return f"later: {type(error).__name__}"
    if services.polls.resume():
        with suppress(BrokerUnavailable):  # the lane's next turn comes all the same
            send_poll(runtime, portal)
    return f"{reply.state}: {reply.acknowledged} acknowledged, {reply.nacked} nacked, {reply.kept} kept"
