"""Hands each event of an open batch to the chains of its pipelines."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.crash_points import crash_point
from b24offline.errors import ConfigError, PaceExceeded, PortalError
from b24offline.event import Event, ObjectKey
from b24offline.ledger import run_id
from b24offline.retry_policy import LONGEST_REPEAT_SECONDS, uncounted_wait_seconds
from b24offline.routing import routes
from b24offline.services import PortalKit
from b24offline.settings import config
from b24offline.tasks.objects import FETCH
from b24offline.tasks.process import runtime
from b24offline.tasks.publishing import publish, queue_of, send_settle, steps_of

log = logging.getLogger(__name__)

SHORTEST_WAIT_SECONDS: Final = 0.5


@shared_task(name=contract.TASK_DISPATCH)
def dispatch(portal: str, process_id: str) -> str:
    """Reads the batch's objects in bulk, then starts its runs. Safe to repeat. Answers how many were sent."""
    kit = runtime().kit(portal)
    events = list(kit.ledger.events(process_id).values())
    runs = {run_id(event, name): event for event in events for name in routes.pipelines_for(event.name)}
    lane = kit.ledger.lane(process_id)
    wait = _prefetch(kit, process_id, runs)
    if wait > 0:
        # Started now, each run would read its object by itself: fifty requests where one would do.
        kit.ledger.postpone(process_id, wait)
        dispatch.apply_async((portal, process_id), queue=queue_of(lane), countdown=wait)
        return f"waits {wait:.0f} s for the portal, {len(events)} events"
    handed = kit.ledger.start(process_id)
    crash_point("dispatch.started")
    sent = publish(kit, handed, {run: (event, lane) for run, event in runs.items()}) if handed else 0
    if events and not runs:
        send_settle(portal, process_id)
    return f"{sent} of {len(runs)} runs sent, {len(events)} events"


def _prefetch(kit: PortalKit, process_id: str, runs: dict[str, Event]) -> float:
    """Reads the objects that the runs will fetch. Answers the seconds to wait when the portal cannot be read now.

    At most a minute, as a message waits so long; but after an error that asks for a longer wait no batch of the portal
    reads before that is over.
    """
    wanted = objects_to_read(runs)
    if not wanted:
        return 0.0
    redis, unread = runtime().redis, f"{kit.ledger.stem}:unread"
    left = redis.pttl(unread) / 1000
    if left > 0:
        return min(max(left, SHORTEST_WAIT_SECONDS), LONGEST_REPEAT_SECONDS)
    try:
        kit.reader.prefetch(wanted, kit.ledger.opened_ms(process_id))
    except (PortalError, PaceExceeded) as error:
        passing = uncounted_wait_seconds(error, config.timers, time.time())
        # What does not pass is judged run by run, by the rules of each.
        log.info("objects not read in bulk", extra={"portal": kit.portal.name, "why": type(error).__name__})
        if isinstance(error, PortalError) and passing is not None and passing > LONGEST_REPEAT_SECONDS:
            redis.set(unread, type(error).__name__, px=round(passing * 1000))
        return 0.0 if passing is None else min(max(passing, SHORTEST_WAIT_SECONDS), LONGEST_REPEAT_SECONDS)
    return 0.0


def objects_to_read(runs: Mapping[str, Event]) -> tuple[ObjectKey, ...]:
    """The objects that runs will fetch, each once. ``runs``: run -> its event."""
    found: dict[ObjectKey, None] = {}
    for run, event in runs.items():
        if event.object and _fetches(event, run.partition("/")[2]):
            found[event.object] = None
    return tuple(found)


def _fetches(event: Event, pipeline: str) -> bool:
    try:
        return any(step.task == FETCH for step in steps_of(event, pipeline))
    except ConfigError:
        return False
    except Exception:  # noqa: BLE001 - a pipeline is foreign code; publish records its error
        return False
