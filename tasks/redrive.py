"""Runs events again that were reported as failed, so that a marked record is never silent for ever.

A marked record is reserved and held: it is run again with growing waits until it succeeds, then cleared. It is never
reported a second time, because that would delete the newer record of the same message.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError
from settings import config
from tasks.process import runtime

AT_ONCE: Final = 20
"""Marked records taken in one go, so that the lane takes its turn beside new events."""


@shared_task(name=contract.TASK_REDRIVE)
def redrive(portal: str) -> str:
    """Takes marked records whose wait is over, and hands them to their pipelines as held ones."""
    kit = runtime().kit(portal)
    if not kit.portal.polled:
        return f"not redriven: {kit.portal.wish}"
    try:
        due = kit.guard.due_marked(kit.queue.marked(), config.timers.held_backoff_seconds[0])
        opened = kit.poller.redrive(islice(due, AT_ONCE))
    except (PortalError, PaceExceeded) as error:
        return f"later: {type(error).__name__}"
    for process_id in opened:
        redrive.app.send_task(contract.TASK_DISPATCH, args=(portal, process_id), queue=contract.QUEUE_EVENTS)
    return f"redriven {len(opened)}"
