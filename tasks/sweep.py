"""Turns overdue into action: runs start again, batches are settled again, orphans are adopted."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.delivery import TROUBLE_OF_ONE_PORTAL, PortalServices
from b24offline.errors import BrokerUnavailable, PortalError, RateLimited, StoreError
from b24offline.events import ObservedState
from b24offline.settings import config
from b24offline.tasks import reconcile
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import publish, send_dispatch, send_settle

log = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400
LOOKS: Final = {"adopt": contract.TASK_ADOPT, "redrive": contract.TASK_REDRIVE}


@shared_task(name=contract.TASK_SWEEP)
def sweep() -> str:
    """Look at every portal once. Return what was overdue."""
    runtime = current_runtime()
    if not runtime.once_per("sweep", config.timers.sweep_seconds / 2):
        return "swept just now"
    runs = batches = 0
    names = runtime.store.portals.names()
    working = runtime.with_open_work(names)
    for name in names:
        try:
            services = runtime.services(name)
            started, settled = _start_again(services) if name in working else (0, 0)
            _ask_for_looks(services)
        except BrokerUnavailable:
            raise
        except TROUBLE_OF_ONE_PORTAL as error:
            log.error("portal not swept, the others are", extra={"portal": name, "why": str(error)})  # noqa: TRY400
            continue
        runs, batches = runs + started, batches + settled
    if runtime.once_per("clean", DAY_SECONDS):
        dead_letters, portals = runtime.store.prune(config.retention_days, keep=config.portal_name)
        log.info("store pruned", extra={"dead_letters": dead_letters, "portals": portals})
    if runtime.once_per("alarms", config.timers.sweep_seconds * 4):
        runtime.tell_alarms()
    return f"overdue: {runs} runs, {batches} batches"


def _start_again(services: PortalServices) -> tuple[int, int]:
    """Send what is overdue at one portal. Return how many runs and batches that was."""
    overdue = services.sweeper.take_overdue()
    for process_id in overdue.batches:
        send_settle(services.portal.name, process_id)
    runs = publish(services, overdue.runs)
    services.sweeper.dead_letter(overdue)
    return runs, len(overdue.batches)


def _ask_for_looks(services: PortalServices) -> None:
    """Ask for what has its turn at one portal and needs its answers."""
    portal = services.portal
    services.lifecycle.finish_drain(portal, config.timers.sweep_seconds)
    if portal.state is ObservedState.BLOCKED:
        # Who is blocked for overload is asked by polls alone, once an hour.
        return
    reconcile.ask_if_due(portal.name)
    for look in services.sweeper.due_looks(portal):
        sweep.app.send_task(LOOKS[look], args=(portal.name,), queue=contract.QUEUE_POLL)


@shared_task(name=contract.TASK_ADOPT)
def adopt(portal: str) -> str:
    """Adopt reserved records of a portal that no batch of ours knows."""
    services = current_runtime().services(portal)
    if not services.portal.polled:
        return f"not adopted: {services.portal.desired_state}"
    try:
        adopted = services.poller.adopt()
    except (PortalError, RateLimited, StoreError) as error:
        return f"later: {type(error).__name__}"
    for process_id in adopted:
        send_dispatch(portal, process_id)
    return f"adopted {len(adopted)}"
