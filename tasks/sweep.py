"""Turns overdue into action: runs start again, batches are settled again, orphans are adopted."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.delivery import TROUBLE_OF_ONE_PORTAL, PortalKit
from b24offline.errors import BrokerUnavailable, PaceExceeded, PortalError, StoreError
from b24offline.events import PortalState
from b24offline.settings import config
from b24offline.tasks import reconcile
from b24offline.tasks.process import runtime
from b24offline.tasks.publish import publish, send_dispatch, send_settle

log = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400
LOOKS: Final = {"adopt": contract.TASK_ADOPT, "redrive": contract.TASK_REDRIVE}


@shared_task(name=contract.TASK_SWEEP)
def sweep() -> str:
    """Looks at every portal once. Answers what was overdue."""
    here = runtime()
    if not here.turn("sweep", config.timers.sweep_seconds / 2):
        return "swept just now"
    runs = batches = 0
    names = here.store.portals.names()
    working = here.with_open_work(names)
    for name in names:
        try:
            kit = here.kit(name)
            started, settled = _start_again(kit) if name in working else (0, 0)
            _ask_for_looks(kit)
        except BrokerUnavailable:
            raise
        except TROUBLE_OF_ONE_PORTAL as error:
            log.error("portal not swept, the others are", extra={"portal": name, "why": str(error)})  # noqa: TRY400
            continue
        runs, batches = runs + started, batches + settled
    if here.turn("clean", DAY_SECONDS):
        letters, portals = here.store.prune(config.retention_days, keep=config.portal_name)
        log.info("store pruned", extra={"dead_letters": letters, "portals": portals})
    if here.turn("alarms", config.timers.sweep_seconds * 4):
        here.tell_alarms()
    return f"overdue: {runs} runs, {batches} batches"


def _start_again(kit: PortalKit) -> tuple[int, int]:
    """Sends what is overdue at one portal. Answers how many runs and batches that was."""
    overdue = kit.sweeper.take_overdue()
    for process_id in overdue.batches:
        send_settle(kit.portal.name, process_id)
    runs = publish(kit, overdue.runs)
    kit.sweeper.park(overdue)
    return runs, len(overdue.batches)


def _ask_for_looks(kit: PortalKit) -> None:
    """Asks for what has its turn at one portal and needs its answers."""
    portal = kit.portal
    kit.lifecycle.finish_drain(portal, config.timers.sweep_seconds)
    if portal.state is PortalState.BLOCKED:
        # Who is blocked for overload is asked by polls alone, once an hour.
        return
    reconcile.ask_if_due(portal.name)
    for look in kit.sweeper.due_looks(portal):
        sweep.app.send_task(LOOKS[look], args=(portal.name,), queue=contract.QUEUE_POLL)


@shared_task(name=contract.TASK_ADOPT)
def adopt(portal: str) -> str:
    """Adopts reserved records of a portal that no batch of ours knows."""
    kit = runtime().kit(portal)
    if not kit.portal.polled:
        return f"not adopted: {kit.portal.wish}"
    try:
        adopted = kit.poller.adopt()
    except (PortalError, PaceExceeded, StoreError) as error:
        return f"later: {type(error).__name__}"
    for process_id in adopted:
        send_dispatch(portal, process_id)
    return f"adopted {len(adopted)}"
