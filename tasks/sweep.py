"""Turns overdue into action: runs start again, batches are settled again, orphans are adopted."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task
from redis.exceptions import ResponseError

from b24offline import alarms, contract
from b24offline.errors import B24OfflineError, PaceExceeded, PortalError, StoreError
from b24offline.ledger import Handed, Ledger
from b24offline.open_work import with_open_work
from b24offline.overview import overviews
from b24offline.portal import PortalState
from b24offline.redriver import listing_seconds, turn_seconds
from b24offline.runtime import Runtime
from b24offline.services import PortalKit
from b24offline.settings import config
from b24offline.tasks import reconcile
from b24offline.tasks.process import runtime
from b24offline.tasks.publishing import publish, send_settle

log = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400


@shared_task(name=contract.TASK_SWEEP)
def sweep() -> str:
    """Looks at every portal once. Answers what was overdue."""
    here = runtime()
    if not here.turn("sweep", config.timers.sweep_seconds / 2):
        return "swept just now"
    runs = batches = 0
    names = here.store.portals.names()
    working = with_open_work(here.redis, config.key_prefix, names)
    for name in names:
        try:
            kit = here.kit(name)
            started, settled = _start_again(kit) if name in working else (0, 0)
            _ask_for_looks(here, kit)
        except (B24OfflineError, ResponseError) as error:
            # What is wrong with one portal, or with its keys in the ledger, must not keep the others waiting.
            log.error("portal not swept, the others are", extra={"portal": name, "why": str(error)})  # noqa: TRY400
            continue
        runs, batches = runs + started, batches + settled
    if here.turn("clean", DAY_SECONDS):
        letters, portals = here.store.prune(config.retention_days, keep=config.portal_name)
        log.info("store pruned", extra={"dead_letters": letters, "portals": portals})
    _tell_alarms(here)
    return f"overdue: {runs} runs, {batches} batches"


def _start_again(kit: PortalKit) -> tuple[int, int]:
    """What is overdue at one portal. Answers how many runs and batches that was."""
    portal = kit.portal.name
    overdue = kit.ledger.take_overdue()
    for process_id in overdue.batches:
        send_settle(portal, process_id)
    runs = publish(kit, overdue.runs) if overdue.runs else 0
    for one in overdue.hopeless:
        _park(kit, one)
    return runs, len(overdue.batches)


def _ask_for_looks(here: Runtime, kit: PortalKit) -> None:
    """Asks for what has its turn at one portal and needs its answers."""
    portal, timers = kit.portal, here.timers
    kit.lifecycle.finish_drain(portal, timers.sweep_seconds)
    if portal.state is PortalState.BLOCKED:
        # Who is blocked for overload is asked by polls alone, once an hour.
        return
    reconcile.ask_if_due(portal.name)
    if not portal.polled:
        return
    if config.adopt and here.turn(f"adopt:{portal.name}", timers.sighting_seconds / 3) and _lists_reserved(here, kit):
        adopt.delay(portal.name)
    if here.turn(f"redrive:{portal.name}", turn_seconds(timers.held_backoff_seconds[0], config.requests_per_second)):
        sweep.app.send_task(contract.TASK_REDRIVE, args=(portal.name,), queue=contract.QUEUE_POLL)


def _lists_reserved(here: Runtime, kit: PortalKit) -> bool:
    """Whether all reserved records are listed this time: seldom while there are thousands and none is an orphan.

    Those of parked events are thousands until a person decides, and a whole list keeps polls out.
    """
    wait = here.timers.sighting_seconds
    seconds = listing_seconds(wait, kit.guard.known_reserved())
    if seconds == listing_seconds(wait, 0) or kit.guard.sighted():
        return True
    return here.turn(f"reserved:{kit.portal.name}", min(seconds, 3 * wait))


def _tell_alarms(here: Runtime) -> None:
    if not here.turn("alarms", config.timers.sweep_seconds * 4):
        return
    for one in overviews(here.store, here.redis, here.config):
        # Not of the kit: that of a portal whose secret cannot be opened is not to be had.
        ledger = Ledger(here.redis, config.key_prefix, one.portal.name, here.timers)
        alarms.tell(here.redis, ledger, one.issues)


def _park(kit: PortalKit, one: Handed) -> None:
    try:
        kit.parking.park(one)
    except StoreError as error:
        # It is due again soon; what is overdue beside it must not wait for the store.
        log.error(  # noqa: TRY400 - the sentence says it all
            "event not parked, the store refused its dead letter",
            extra={"portal": kit.portal.name, "run": one.run, "why": str(error)},
        )


@shared_task(name=contract.TASK_ADOPT)
def adopt(portal: str) -> str:
    """Adopts reserved records of a portal that no batch of ours knows."""
    here = runtime()
    kit = here.kit(portal)
    if not kit.portal.polled:
        return f"not adopted: {kit.portal.wish}"
    try:
        adopted = kit.poller.adopt()
    except (PortalError, PaceExceeded, StoreError) as error:
        return f"later: {type(error).__name__}"
    for process_id in adopted:
        adopt.app.send_task(contract.TASK_DISPATCH, args=(portal, process_id), queue=contract.QUEUE_EVENTS)
    return f"adopted {len(adopted)}"
