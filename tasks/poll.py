"""Beat's tick and the poll of one portal."""

from __future__ import annotations

import logging
import time

from celery import shared_task

from b24offline import contract
from b24offline.errors import AuthServerError, PaceExceeded, PortalError
from b24offline.poll_schedule import next_interval_seconds
from b24offline.portal_state import standing_after
from b24offline.runtime import Runtime
from b24offline.store import PortalState
from settings import config
from tasks.bind import bind_if_due
from tasks.process import runtime

log = logging.getLogger(__name__)

SERVED = frozenset(PortalState) - {PortalState.REMOVED}
"""States in which a portal is still looked at; each ends when a call succeeds again."""


@shared_task(name=contract.TASK_TICK)
def tick() -> str:
    """Asks for a poll of every portal that is due. Answers which."""
    here = runtime()
    here.seeded  # noqa: B018 - the configuration's portal is brought into the store once per process
    portals = [portal.name for portal in here.store.portals() if portal.state in SERVED]
    if not portals:
        log.warning("no portal to serve: set B24_PORTAL_URL, or add one to the store")
    here.schedule.seed(portals)
    due = here.schedule.take_due(config.poll_interval_max_seconds)
    for name in due:
        bind_if_due(here, name)
        poll.delay(name)
    return f"due: {', '.join(due)}" if due else "nothing due"


@shared_task(name=contract.TASK_POLL)
def poll(portal: str) -> str:
    """Reserves a batch of one portal, opens it in the ledger, asks for its dispatch. Answers what happened."""
    here = runtime()
    kit = here.kit(portal)
    try:
        polled = kit.poller.poll()
    except (PortalError, AuthServerError, PaceExceeded) as error:
        return _stand_back(here, portal, error)
    if polled.state in ("empty", "opened"):
        clear_state(here, portal)
        previous = here.schedule.interval_seconds(portal)
        wait = next_interval_seconds(
            previous,
            polled.received,
            config.limit,
            config.poll_interval_min_seconds,
            config.poll_interval_max_seconds,
        )
        here.schedule.set_next(portal, wait)
    elif polled.state == "full":
        here.schedule.set_next(portal, config.poll_interval_min_seconds)
    for process_id in polled.opened:
        dispatch = poll.app.signature(contract.TASK_DISPATCH, args=(portal, process_id))
        dispatch.apply_async(queue=contract.QUEUE_EVENTS)
    if polled.opened and polled.received >= config.limit:
        poll.delay(portal)
    return f"{polled.state}: {polled.received}"


def _stand_back(here: Runtime, portal: str, error: PortalError | PaceExceeded) -> str:
    standing = note_state(here, portal, error)
    here.schedule.set_next(portal, standing)
    return f"not polled for {standing:.0f} s: {type(error).__name__}"


def note_state(here: Runtime, portal: str, error: PortalError | PaceExceeded) -> float:
    """Writes the portal's state down after a call failed. Answers the seconds to stand back."""
    standing = standing_after(error, now_epoch=time.time(), time_scale=config.time_scale)
    if standing.state is not PortalState.ACTIVE and here.store.portal(portal).state is not standing.state:
        here.store.set_state(portal, standing.state, str(error))
        level = logging.WARNING if standing.state is PortalState.PAUSED else logging.ERROR
        log.log(level, "portal stands back", extra={"portal": portal, "state": standing.state, "why": str(error)})
    return standing.wait_seconds


def clear_state(here: Runtime, portal: str) -> None:
    """A call of the machinery succeeded: whatever held the portal back is over."""
    if here.store.portal(portal).state is not PortalState.ACTIVE:
        here.store.set_state(portal, PortalState.ACTIVE, "")
        log.warning("portal is served again", extra={"portal": portal})
