"""Send the messages of runs and batches.

The ledger is written before a message is sent. A lost message is sent again by the sweep.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kombu.exceptions import OperationalError

from b24offline import contract
from b24offline.config import DEFAULT_LANE
from b24offline.errors import BrokerUnavailable
from b24offline.failpoints import failpoint
from b24offline.settings import config
from b24offline.tasks.celery_app import app
from b24offline.tasks.chains import Chain, bulk_size, chain_of
from b24offline.tasks.chunk_messages import Waiting, chunk_chains, waiting
from b24offline.tasks.failure_log import log_error, place_of, words_of

if TYPE_CHECKING:
    from b24offline.delivery import PortalServices
    from b24offline.events import Event
    from b24offline.ledger import Completion, RunRef
    from b24offline.runtime import Runtime


def publish(
    services: PortalServices, runs: Iterable[RunRef], known: Mapping[str, tuple[Event, str]] | None = None
) -> int:
    """Send the first step of each run, all in one round trip. Return how many were sent.

    A run whose pipeline cannot be built fails, and the next run of its object queue starts. ``known``: run -> its event
    and lane, as far as the caller has them. Raise `BrokerUnavailable`, which fails no run: the sweep sends it again.
    """
    return send(services, *_built(services, runs, known or {}))


def send(services: PortalServices, chains: Sequence[Chain], settleable: Sequence[str]) -> int:
    """Send messages, and ask to settle batches, all in one round trip. Return how many runs were sent.

    Raise `BrokerUnavailable`.
    """
    if not chains and not settleable:
        return 0
    producer: Any  # the stubs lack `batch`
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            declared: set[object] = set()
            for chain in chains:
                queue = chain.first.options.get("queue")
                # The first message declares its queue; looking for each would be a quarter of what sending costs.
                declare = () if queue in declared else None
                declared.add(queue)
                chain.first.apply_async(chain=list(chain.rest) or None, producer=producer, declare=declare)
            for process_id in settleable:
                send_settle(services.portal.name, process_id, producer)
    except (OperationalError, RuntimeError) as error:
        # kombu raises RuntimeError when it had to reconnect within a batch.
        raise BrokerUnavailable(f"the broker took no message: {type(error).__name__}") from error
    return sum(chain.runs for chain in chains)


def _built(
    services: PortalServices, runs: Iterable[RunRef], known: Mapping[str, tuple[Event, str]]
) -> tuple[list[Chain], list[str]]:
    """Return the chains of runs, and the batches that can be settled because a run could not be built."""
    todo = deque(runs)
    chains: list[Chain] = []
    in_bulk: list[Waiting] = []
    settleable: list[str] = []
    while todo:
        ref = todo.popleft()
        found = known.get(ref.run) or services.ledger.event_of(ref.run)
        if found is None:
            continue
        event, lane = found
        try:
            if bulk_size(ref.pipeline):
                in_bulk.append(waiting(ref, event, queue_of(lane)))
            else:
                chains.append(chain_of(ref, event, queue_of(lane)))
        except Exception as error:  # noqa: BLE001 - a pipeline is a user's code; its run records the error
            facts = place_of(event, ref.pipeline) | {"run": ref.run, "error": type(error).__name__}
            log_error(logging.ERROR, "pipeline could not be built", error, facts)
            if event.retrying:
                # Its record was nacked and must not be nacked again: it waits for a repaired pipeline.
                services.dead_letter_queue.note_error(ref.run, words_of(error))
                services.ledger.reschedule_run(ref.run, ref.attempt, None, counted=True, reason=type(error).__name__)
                continue
            completion = services.ledger.fail(ref.run, ref.attempt, type(error).__name__, backoff_seconds=0.001)
            settleable += completion.settleable
            if completion.next:
                todo.append(completion.next)
    return [*chains, *chunk_chains(services, in_bulk)], settleable


def follow(services: PortalServices, completion: Completion) -> None:
    """Ask to settle the batches whose last outcome this was, and start the next run of the object queue."""
    for process_id in completion.settleable:
        failpoint("outcome.settleable")
        send_settle(services.portal.name, process_id)
    if completion.next:
        publish(services, [completion.next])


def send_settle(portal: str, process_id: str, producer: Any = None, *, wait_seconds: float = 0.0) -> None:
    """Ask for a batch to be settled after the wait."""
    app.send_task(
        contract.TASK_SETTLE,
        args=(portal, process_id),
        queue=contract.QUEUE_SETTLE,
        producer=producer,
        countdown=wait_seconds or None,
    )


def send_dispatch(portal: str, process_id: str, *, lane: str = DEFAULT_LANE, wait_seconds: float = 0.0) -> None:
    """Ask for an open batch to be dispatched after the wait."""
    app.send_task(
        contract.TASK_DISPATCH, args=(portal, process_id), queue=queue_of(lane), countdown=wait_seconds or None
    )


def send_poll(runtime: Runtime, portal: str) -> bool:
    """Ask for a poll of one portal, from any thread of a process that is no worker. Return False where one waits.

    Raise `BrokerUnavailable`; a poll can be asked for again then.
    """
    if not runtime.queued.begin(contract.TASK_POLL, [portal]):
        return False
    try:
        _send_about(contract.TASK_POLL, portal)
    except BrokerUnavailable:
        runtime.queued.forget(contract.TASK_POLL, portal)
        raise
    return True


def send_bind(portal: str) -> None:
    """Ask for a look at the subscriptions of one portal, as `send_poll`. Raise `BrokerUnavailable`."""
    _send_about(contract.TASK_BIND, portal)


def _send_about(task: str, portal: str) -> None:
    try:
        # By the application, not by the task: in a thread that made none, tasks belong to another application.
        app.send_task(task, args=(portal,), queue=contract.QUEUE_POLL)
    except OperationalError as error:
        raise BrokerUnavailable(f"the broker took no message: {type(error).__name__}") from error


def queue_of(lane: str) -> str:
    """Return the queue of a lane's steps; that of the default lane where the lane is not configured any more."""
    known = config.all_lanes.get(lane)
    return known.queue if known else contract.QUEUE_EVENTS
