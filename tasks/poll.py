"""Beat's tick and the poll of one portal."""

from __future__ import annotations

import logging

from celery import shared_task
from redis.exceptions import ResponseError

from b24offline import contract
from b24offline.crash_points import crash_point
from b24offline.errors import B24OfflineError, PaceExceeded, PortalError, StoreError, TakeoverNeeded
from b24offline.lanes import choose
from b24offline.poll_schedule import next_interval_seconds
from b24offline.portal_lifecycle import PortalFailure
from b24offline.runtime import Runtime
from b24offline.services import PortalKit
from b24offline.settings import config
from b24offline.tasks.bind import bind
from b24offline.tasks.process import runtime

log = logging.getLogger(__name__)


@shared_task(name=contract.TASK_TICK)
def tick() -> str:
    """Asks for a poll of every portal that is due. Answers which."""
    here = runtime()
    if not here.turn("tick", config.tick_seconds / 2):
        return "ticked just now"
    here.ensure_configured_portal()  # the configuration's portal is brought into the store once per process
    portals = here.store.portals.polled_names()
    if not portals and here.turn("nothing-to-serve", 60):
        log.warning("no portal to serve: set B24_PORTAL_URL, or add one with b24offline portal add")
    here.schedule.seed(portals)
    due = here.schedule.take_due(config.poll_interval_max_seconds)
    for name in due:
        try:
            kit = here.kit(name)
            if kit.subscriber.due(kit.portal):
                bind.delay(name)
        except (B24OfflineError, ResponseError) as error:
            # What is wrong with one portal, or with its keys in the ledger, must not keep the others waiting.
            log.error("portal not polled, the others are", extra={"portal": name, "why": str(error)})  # noqa: TRY400
            continue
        poll.delay(name)
    return f"due: {', '.join(due)}" if due else "nothing due"


@shared_task(name=contract.TASK_POLL)
def poll(portal: str) -> str:
    """Reserves a batch of one portal, opens it in the ledger, asks for its dispatch. Answers what happened."""
    here = runtime()
    kit = here.kit(portal)
    if not kit.portal.polled:
        return f"not polled: {kit.portal.wish}"
    lanes = config.all_lanes
    name = choose(lanes, kit.lanes.waited_ms(lanes))
    if name is None:
        return _come_again(here, kit, "no lane is due")
    lane = lanes[name]
    try:
        polled = kit.poller.poll(lane)
    except (PortalError, PaceExceeded, StoreError, TakeoverNeeded) as error:
        return _back_off(here, kit, error)
    if polled.state in ("empty", "opened"):
        kit.lifecycle.note_success()
        previous = kit.lanes.interval_seconds(name)
        wait = next_interval_seconds(
            previous, polled.received, lane.limit, lane.interval_min_seconds, lane.interval_max_seconds
        )
        kit.lanes.set_next(name, wait)
    elif polled.state == "full":
        kit.lanes.set_next(name, lane.interval_min_seconds)
    else:
        # Soon, because the call that is under way, or the wait, is over long before an idle portal's next turn.
        here.schedule.set_next(portal, config.poll_interval_min_seconds)
        return f"{name} {polled.state}"
    for process_id in polled.opened:
        crash_point("poll.opened")
        dispatch = poll.app.signature(contract.TASK_DISPATCH, args=(portal, process_id))
        dispatch.apply_async(queue=lane.queue)
    return _come_again(here, kit, f"{name} {polled.state}: {polled.received}")


def _come_again(here: Runtime, kit: PortalKit, told: str) -> str:
    """Makes the portal due when its next lane is; a lane that is due already is polled by a message, at once."""
    waited = kit.lanes.waited_ms(config.all_lanes)
    wait = max(0.0, -max(waited.values()) / 1000)
    if wait <= 0:
        poll.delay(kit.portal.name)
        # As far off as tick itself puts it: while polls take longer than that, each would bring a second one along.
        wait = config.poll_interval_max_seconds
    here.schedule.set_next(kit.portal.name, wait)
    return told


def _back_off(here: Runtime, kit: PortalKit, error: PortalFailure) -> str:
    seconds = kit.lifecycle.note_failure(error)
    here.schedule.set_next(kit.portal.name, seconds)
    return f"not polled for {seconds:.0f} s: {type(error).__name__}"
