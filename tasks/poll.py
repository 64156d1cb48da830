"""Beat's tick and the poll of one portal."""

from __future__ import annotations

import logging

from celery import shared_task

from b24offline import contract
from b24offline.delivery import TROUBLE_OF_ONE_PORTAL
from b24offline.failpoints import failpoint
from b24offline.settings import config
from b24offline.tasks.bind import bind
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import send_dispatch

log = logging.getLogger(__name__)


@shared_task(name=contract.TASK_TICK)
def tick() -> str:
    """Ask for a poll of every portal that is due. Return which."""
    runtime = current_runtime()
    if not runtime.once_per("tick", config.tick_seconds / 2):
        return "ticked just now"
    runtime.ensure_configured_portal()
    portals = runtime.store.portals.polled_names()
    if not portals and runtime.once_per("nothing-to-serve", 60):
        log.warning("no portal to serve: set B24_PORTAL_URL, or add one with b24offline portal add")
    runtime.schedule.seed(portals)
    due = runtime.schedule.take_due(config.poll_interval_max_seconds)
    for name in due:
        try:
            services = runtime.services(name)
            if services.subscriber.due(services.portal):
                bind.delay(name)
        except TROUBLE_OF_ONE_PORTAL as error:
            log.error("portal not polled, the others are", extra={"portal": name, "why": str(error)})  # noqa: TRY400
            continue
        poll.delay(name)
    return f"due: {', '.join(due)}" if due else "nothing due"


@shared_task(name=contract.TASK_POLL)
def poll(portal: str) -> str:
    """Reserve a batch of one portal, opens it in the ledger, asks for its dispatch. Return what happened."""
    services = current_runtime().services(portal)
    if not services.portal.polled:
        return f"not polled: {services.portal.desired_state}"
    turn = services.polls.take()
    for process_id in turn.opened:
        failpoint("poll.opened")
        send_dispatch(portal, process_id, lane=turn.lane)
    if turn.again:
        poll.delay(portal)
    return turn.reply
