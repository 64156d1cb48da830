"""From runs that were handed out to messages, and from outcomes to what follows them.

The ledger is always written before a message is sent; a message is only a hint, and what is lost is sent again by the
sweep. Many messages go out in one round trip.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from b24offline import contract
from b24offline.config import DEFAULT_LANE
from b24offline.errors import BrokerUnavailable
from b24offline.failpoints import failpoint
from b24offline.settings import config
from b24offline.tasks.celery_app import app
from b24offline.tasks.chains import Chain, chain_of
from b24offline.tasks.step_error import showable

if TYPE_CHECKING:
    from b24offline.delivery import PortalServices
    from b24offline.events import Event
    from b24offline.ledger import Completion, RunRef

log = logging.getLogger(__name__)


def publish(
    services: PortalServices, handed: Iterable[RunRef], known: Mapping[str, tuple[Event, str]] | None = None
) -> int:
    """Send the first step of each run. A run whose pipeline cannot be built fails, and frees what waited for it.

    ``known``: run -> its event and lane, as far as the caller has them. Return how many were sent. Raises
    `BrokerUnavailable`, which is no run's failure: what was not sent is handed out, and the sweep sends it again.
    """
    chains, settleable = _built(services, handed, known or {})
    if not chains and not settleable:
        return 0
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            for chain in chains:
                chain.first.apply_async(chain=list(chain.rest) or None, producer=producer)
            for process_id in settleable:
                send_settle(services.portal.name, process_id, producer)
    except (OperationalError, RuntimeError) as error:
        # RuntimeError is kombu's, when it had to connect anew amid a batch.
        raise BrokerUnavailable(f"the broker took no message: {type(error).__name__}") from error
    return len(chains)


def _built(
    services: PortalServices, handed: Iterable[RunRef], known: Mapping[str, tuple[Event, str]]
) -> tuple[list[Chain], list[str]]:
    """Return the chains of runs, and the batches whose last outcome is a run that could not be built."""
    todo = deque(handed)
    chains: list[Chain] = []
    settleable: list[str] = []
    while todo:
        run = todo.popleft()
        found = known.get(run.run) or services.ledger.event_of(run.run)
        if found is None:
            continue
        event, lane = found
        try:
            chains.append(chain_of(run, event, queue_of(lane)))
        except Exception as error:
            log.error(  # noqa: TRY400 - the error's own text may quote the event
                "pipeline could not be built",
                exc_info=showable(error),
                extra={"portal": event.portal, "run": run.run},
            )
            if event.retrying:
                # It was nacked before and must not be again: it waits for a repaired pipeline.
                services.ledger.back_off(run.run, run.attempt, reason=type(error).__name__)
                continue
            concluded = services.ledger.fail(run.run, run.attempt, type(error).__name__, backoff_seconds=0.001)
            settleable += concluded.settleable
            if concluded.next:
                todo.append(concluded.next)
    return chains, settleable


def follow(services: PortalServices, reply: Completion) -> None:
    """After an outcome: starts the object's next run, settles batches whose last outcome it was."""
    for process_id in reply.settleable:
        failpoint("outcome.settleable")
        send_settle(services.portal.name, process_id)
    if reply.next:
        publish(services, [reply.next])


def send_settle(portal: str, process_id: str, producer: Any = None) -> None:
    """Ask for a batch to be settled."""
    app.send_task(
        contract.TASK_SETTLE,
        args=(portal, process_id),
        queue=contract.QUEUE_SETTLE,
        producer=producer,
    )


def send_dispatch(portal: str, process_id: str, *, lane: str = DEFAULT_LANE, wait_seconds: float = 0.0) -> None:
    """Ask for an open batch to be dispatched, after the wait."""
    app.send_task(
        contract.TASK_DISPATCH, args=(portal, process_id), queue=queue_of(lane), countdown=wait_seconds or None
    )


def queue_of(lane: str) -> str:
    """Return the queue of a lane's steps; that of the default lane when the lane is not configured any more."""
    known = config.all_lanes.get(lane)
    return known.queue if known else contract.QUEUE_EVENTS
