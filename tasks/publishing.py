"""From runs that were handed out to messages, and from outcomes to what follows them.

The ledger is always written before a message is sent; a message is only a hint, and what is lost is sent again by the
sweep. Many messages go out in one round trip.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from celery.canvas import Signature, _chain
from celery.utils import uuid
from kombu.exceptions import OperationalError

from b24offline import contract
from b24offline.crash_points import crash_point
from b24offline.errors import ConfigError
from b24offline.lanes import DEFAULT_LANE
from b24offline.routing import routes
from b24offline.settings import config
from b24offline.tasks.celery_app import app
from b24offline.tasks.step_error import showable

if TYPE_CHECKING:
    from b24offline.event import Event
    from b24offline.ledger import Concluded, Handed
    from b24offline.services import PortalKit

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticket:
    """The header of a step's message: which run it is for. No customer data.

    Attributes:
        portal: name of the portal.
        run: record, stamp and pipeline, ``123@1775203200/deal_changed``.
        attempt: the attempt token; a step of a replaced one returns at once.
        step: position in the chain, 0 for the first.
        last: whether success of this step is success of the run.
        gives_event: whether the step receives the event as its first argument.
        title: what Flower shows, ``portal=acme event=ONCRMDEALUPDATE object=deal 123``.
    """

    portal: str
    run: str
    attempt: int
    step: int
    last: bool
    gives_event: bool
    title: str

    @property
    def pipeline(self) -> str:
        """The pipeline that runs."""
        return self.run.partition("/")[2]

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Ticket | None:
        """The ticket in a message's header; None when it has another form, as a newer version may write it."""
        try:
            return cls(**{name: header[name] for name in cls.__slots__})
        except KeyError:
            return None


def steps_of(event: Event, pipeline: str) -> list[Signature]:
    """The steps of a pipeline for an event. Raises whatever the pipeline raises, and `ConfigError` for its shape."""
    function = routes.pipeline(pipeline)
    if function is None:
        raise ConfigError(f"no pipeline {pipeline!r} is loaded: see B24_PIPELINES")
    made = function(event)
    steps = list(made.tasks) if isinstance(made, _chain) else [made]
    for one in steps:
        if not isinstance(one, Signature) or one.get("subtask_type") not in (None, "chain"):
            raise ConfigError(f"pipeline {pipeline!r} must return a step or a chain of steps: no groups, no chords")
    return [one.clone() for one in steps]


def title_of(event: Event) -> str:
    """What Flower shows of a run: names and ids only."""
    what = str(event.object) if event.object else f"record {event.record_id}"
    return f"portal={event.portal} event={event.name} object={what}"


def publish(kit: PortalKit, handed: Iterable[Handed], known: Mapping[str, tuple[Event, str]] | None = None) -> int:
    """Sends the first step of each run. A run whose pipeline cannot be built fails, and frees what waited for it.

    ``known``: run -> its event and lane, as far as the caller has them. Raises the broker's error when it is away, and
    that is no run's failure: what was not sent is handed out, and the sweep sends it again.
    """
    todo = deque(handed)
    settleable: list[str] = []
    sent = 0
    away: Exception | None = None
    with app.producer_pool.acquire(block=True) as producer, producer.batch():
        while todo and away is None:
            one = todo.popleft()
            found = (known or {}).get(one.run) or kit.ledger.event_of(one.run)
            if found is None:
                continue
            event, lane = found
            try:
                first, rest = _chain_of(one, event, queue_of(lane))
                away = _sent(first, rest, producer)
                sent += away is None
            except Exception as error:
                log.error(  # noqa: TRY400 - the error's own text may quote the event
                    "pipeline could not be built",
                    exc_info=showable(error),
                    extra={"portal": event.portal, "run": one.run},
                )
                if event.held:
                    # It was reported before and must not be again: it waits for a repaired pipeline.
                    kit.ledger.back_off(one.run, one.attempt, reason=type(error).__name__)
                    continue
                told = kit.ledger.fail(one.run, one.attempt, type(error).__name__, backoff_seconds=0.001)
                settleable += told.settleable
                if told.next:
                    todo.append(told.next)
        for process_id in settleable if away is None else ():
            send_settle(kit.portal.name, process_id, producer)
    if away is not None:
        raise away
    return sent


def follow(kit: PortalKit, told: Concluded) -> None:
    """After an outcome: starts the object's next run, settles batches whose last outcome it was."""
    for process_id in told.settleable:
        crash_point("outcome.settleable")
        send_settle(kit.portal.name, process_id)
    if told.next:
        publish(kit, [told.next])


def send_settle(portal: str, process_id: str, producer: Any = None) -> None:
    """Asks for a batch to be settled."""
    app.send_task(
        contract.TASK_SETTLE,
        args=(portal, process_id),
        queue=contract.QUEUE_SETTLE,
        producer=producer,
    )


def send_dispatch(portal: str, process_id: str, *, lane: str = DEFAULT_LANE, wait_seconds: float = 0.0) -> None:
    """Asks for an open batch to be dispatched, after the wait."""
    app.send_task(
        contract.TASK_DISPATCH, args=(portal, process_id), queue=queue_of(lane), countdown=wait_seconds or None
    )


def queue_of(lane: str) -> str:
    """The queue of a lane's steps; that of the default lane when the lane is not configured any more."""
    known = config.all_lanes.get(lane)
    return known.queue if known else contract.QUEUE_EVENTS


def _chain_of(one: Handed, event: Event, queue: str) -> tuple[Signature, list[Signature]]:
    """The first step of a run, and those behind it in the order in which a message carries them."""
    steps = steps_of(event, one.pipeline)
    title = title_of(event)
    run = {"portal": event.portal, "run": one.run, "attempt": one.attempt}
    ours = [_is_ours(each) for each in steps]
    if not ours[-1]:
        # A step of another stack cannot record: our outcome task follows it.
        steps.append(_told(contract.TASK_SUCCEEDED, run, by_us=False, immutable=True))
        ours.append(False)
    root = uuid()
    for position, each in enumerate(steps):
        ticket = Ticket(
            **run,
            step=position,
            last=position == len(steps) - 1,
            gives_event=position == 0 and ours[0] and not each.immutable,
            title=title,
        )
        if ours[position]:
            # Said in each message: a chain may go on in another stack's worker, which does not know our routes.
            each.options.setdefault("queue", queue)
            if position and not ours[position - 1]:
                _address(each, by_us=False)
        each.set(
            task_id=root if position == 0 else uuid(),
            root_id=root,
            headers={**(each.options.get("headers") or {}), contract.HEADER_WORK: asdict(ticket)},
            argsrepr=title,
            kwargsrepr="",
            link_error=[_told(contract.TASK_FAILED, run, by_us=ours[position])],
        )
    first, *rest = steps
    if not ours[0] and not first.immutable:
        first.args = (reference(event, one.pipeline), *first.args)
    return first, list(reversed(rest))


def _sent(first: Signature, rest: list[Signature], producer: Any) -> Exception | None:
    """Sends a chain. Answers the broker's trouble; raises what is wrong with the chain itself."""
    try:
        first.apply_async(chain=rest or None, producer=producer)
    except OperationalError as error:
        return error
    except RuntimeError as error:
        # kombu's, when it had to connect anew amid a batch
        if "publish batch" not in str(error) and "aborted batch" not in str(error):
            raise
        return error
    return None


def _told(outcome: str, run: Mapping[str, Any], *, by_us: bool, immutable: bool = False) -> Signature:
    """An outcome task. ``by_us``: it is our worker that will send it."""
    signature: Signature = app.signature(outcome, kwargs=run, immutable=immutable, queue=contract.QUEUE_SETTLE)
    _address(signature, by_us=by_us)
    return signature


def _address(signature: Signature, *, by_us: bool) -> None:
    # Whoever sends to a queue declares it. Another stack would declare a classic one, and be refused.
    if config.quorum_queues and not by_us and signature.options["queue"] in app.amqp.queues:
        signature.set(exchange=contract.EXCHANGE, routing_key=signature.options.pop("queue"))


def reference(event: Event, pipeline: str) -> dict[str, Any]:
    """What a first step of another stack receives: names and ids, no payload."""
    return {
        "portal": event.portal,
        "event": event.name,
        "action": event.action,
        "entity": event.object.entity if event.object else None,
        "object_id": event.object.object_id if event.object else None,
        "record_id": event.record_id,
        "idempotency_key": event.idempotency_key(pipeline),
    }


def _is_ours(signature: Signature) -> bool:
    return bool(getattr(app.tasks.get(signature.task), "records_outcome", False))
