"""Hands each event of an open batch to the chains of its pipelines."""

from __future__ import annotations

import logging

from celery import shared_task

from b24offline import contract
from b24offline.crash_points import crash_point
from b24offline.errors import ConfigError, PaceExceeded, PortalError
from b24offline.event import Event, ObjectKey
from b24offline.ledger import run_id
from b24offline.routing import routes
from b24offline.runtime import PortalKit
from tasks.objects import FETCH
from tasks.process import runtime
from tasks.publishing import publish, send_settle, steps_of

log = logging.getLogger(__name__)


@shared_task(name=contract.TASK_DISPATCH)
def dispatch(portal: str, process_id: str) -> str:
    """Reads the batch's objects in bulk, then starts its runs. Safe to repeat. Answers how many were sent."""
    kit = runtime().kit(portal)
    events = list(kit.ledger.events(process_id).values())
    runs = {run_id(event, name): event for event in events for name in routes.pipelines_for(event.name)}
    _prefetch(kit, runs)
    lane = kit.ledger.lane(process_id)
    handed = kit.ledger.start(process_id)
    crash_point("dispatch.started")
    sent = publish(kit, handed, {run: (event, lane) for run, event in runs.items()}) if handed else 0
    if events and not runs:
        send_settle(portal, process_id)
    return f"{sent} of {len(runs)} runs sent, {len(events)} events"


def _prefetch(kit: PortalKit, runs: dict[str, Event]) -> None:
    wanted: dict[ObjectKey, None] = {}
    for run, event in runs.items():
        if event.object and event.action != "delete" and _fetches(event, run.partition("/")[2]):
            wanted[event.object] = None
    if not wanted:
        return
    try:
        kit.reader.prefetch(wanted)
    except (PortalError, PaceExceeded) as error:
        # Each step reads its object by itself then, and waits or fails by its own rules.
        log.warning("objects not read in bulk", extra={"portal": kit.portal.name, "why": type(error).__name__})


def _fetches(event: Event, pipeline: str) -> bool:
    try:
        return any(step.task == FETCH for step in steps_of(event, pipeline))
    except ConfigError:
        return False
    except Exception:  # noqa: BLE001 - a pipeline is foreign code; publish records its error
        return False
