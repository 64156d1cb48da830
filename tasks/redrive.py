"""Runs events again that were reported as failed, so that a marked record is never silent for ever.

A marked record is reserved and held: it is run again with growing waits until it succeeds, then cleared. It is never
reported a second time, because that would delete the newer record of the same message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError, StoreError
from b24offline.event import Record
from b24offline.ledger import run_id
from b24offline.redrive_pace import AT_ONCE, listing_seconds
from b24offline.routing import routes
from b24offline.services import PortalKit
from b24offline.settings import config
from b24offline.tasks.dispatch import objects_to_read
from b24offline.tasks.process import runtime

AT_LEAST: Final = 5
"""Taken in any turn, however much new events want the portal."""


@shared_task(name=contract.TASK_REDRIVE)
def redrive(portal: str) -> str:
    """Takes marked records whose wait is over, and hands them to their pipelines as held ones."""
    here = runtime()
    kit = here.kit(portal)
    if not kit.portal.polled:
        return f"not redriven: {kit.portal.wish}"
    if kit.portal.ledger_generation is None:
        # Before the first poll nobody knows whether the queue is another deployment's.
        return "not redriven: not polled yet"
    wait = config.timers.held_backoff_seconds[0]
    marked = kit.guard.due_marked(kit.queue.marked(), wait)
    try:
        # Those that nothing runs stay marked and free; they must not take the place of others.
        due = (record for record in marked if routes.pipelines_for(record.name))
        opened = kit.poller.redrive(_while_none_waits(kit, islice(due, AT_ONCE)))
    except (PortalError, PaceExceeded, StoreError) as error:
        return f"later: {type(error).__name__}"
    _read_ahead(kit, opened)
    for process_id in opened:
        redrive.app.send_task(contract.TASK_DISPATCH, args=(portal, process_id), queue=contract.QUEUE_EVENTS)
    if here.turn(f"marked:{portal}", listing_seconds(wait, kit.guard.known_marked())):
        # After those that are due: a portal too busy to list thousands would else keep them waiting.
        with suppress(PortalError, PaceExceeded):
            deque(marked, maxlen=0)
    return f"redriven {len(opened)}"


def _while_none_waits(kit: PortalKit, due: Iterable[Record]) -> Iterator[Record]:
    """Ends when a poll has been due for longer than a tick: the calls made here keep it out; new events go first."""
    for number, record in enumerate(due):
        if number >= AT_LEAST and max(kit.lanes.waited_ms(config.all_lanes).values()) > config.tick_seconds * 1000:
            return
        yield record


def _read_ahead(kit: PortalKit, opened: Iterable[str]) -> None:
    """Reads the objects of all in one request; each batch makes one of its own for what is not read here."""
    events = [event for process_id in opened for event in kit.ledger.events(process_id).values()]
    runs = {run_id(event, name): event for event in events for name in routes.pipelines_for(event.name)}
    with suppress(PortalError, PaceExceeded):
        kit.reader.prefetch(objects_to_read(runs))
