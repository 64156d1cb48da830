"""Turns overdue into action: runs start again, batches are settled again, orphans are adopted."""

from __future__ import annotations

import logging

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError
from b24offline.runtime import PortalKit
from settings import config
from tasks.process import runtime
from tasks.publishing import publish, send_settle

log = logging.getLogger(__name__)


@shared_task(name=contract.TASK_SWEEP)
def sweep() -> str:
    """Looks at every portal once. Answers what was overdue."""
    here = runtime()
    runs = batches = 0
    for portal in here.store.portals():
        kit = here.kit(portal.name)
        overdue = kit.ledger.take_overdue()
        for process_id in overdue.batches:
            send_settle(portal.name, process_id)
        runs += publish(kit, overdue.runs) if overdue.runs else 0
        batches += len(overdue.batches)
        if config.adopt and _turn(kit, "adopt", config.timers.sighting_seconds / 3):
            adopt.delay(portal.name)
        if _turn(kit, "redrive", config.timers.held_backoff_seconds[0] / 3):
            sweep.app.send_task(contract.TASK_REDRIVE, args=(portal.name,), queue=contract.QUEUE_POLL)
    return f"overdue: {runs} runs, {batches} batches"


def _turn(kit: PortalKit, what: str, seconds: float) -> bool:
    """Whether it is time for this again; at most once in so many seconds over all workers."""
    key = f"{kit.ledger.stem}:turn:{what}"
    return bool(runtime().redis.set(key, "1", nx=True, px=max(1, round(seconds * 1000))))


@shared_task(name=contract.TASK_ADOPT)
def adopt(portal: str) -> str:
    """Adopts reserved records of a portal that no batch of ours knows."""
    kit = runtime().kit(portal)
    try:
        adopted = kit.poller.adopt()
    except (PortalError, PaceExceeded) as error:
        return f"later: {type(error).__name__}"
    for process_id in adopted:
        adopt.app.send_task(contract.TASK_DISPATCH, args=(portal, process_id), queue=contract.QUEUE_EVENTS)
    return f"adopted {len(adopted)}"
