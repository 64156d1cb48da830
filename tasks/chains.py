"""From a run to the messages of its chain: pipelines are called, steps get their headers. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from celery.canvas import Signature, _chain
from celery.utils import uuid
from kombu.utils import json

from b24offline import contract
from b24offline.errors import ConfigError
from b24offline.events import routes
from b24offline.settings import config
from b24offline.tasks.celery_app import app

if TYPE_CHECKING:
    from b24offline.events import Event
    from b24offline.ledger import RunRef

FETCH: Final = f"{contract.STEP_PREFIX}objects.fetch"


@dataclass(frozen=True, slots=True)
class StepHeader:
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
    def from_header(cls, header: Mapping[str, Any]) -> StepHeader | None:
        """Return the ticket in a message's header; None when it has another form, as a newer version may write it."""
        try:
            return cls(**{name: header[name] for name in cls.__slots__})
        except KeyError:
            return None


@dataclass(frozen=True, slots=True)
class Chain:
    """The first step of a run, and those behind it in the order in which a message carries them."""

    first: Signature
    rest: tuple[Signature, ...]


def steps_of(event: Event, pipeline: str) -> list[Signature]:
    """Return the steps of a pipeline for an event. Raises whatever the pipeline raises, and `ConfigError` for its
    shape."""
    function = routes.pipeline(pipeline)
    if function is None:
        raise ConfigError(f"no pipeline {pipeline!r} is loaded: see B24_PIPELINES")
    made = function(event)
    steps = list(made.tasks) if isinstance(made, _chain) else [made]
    for one in steps:
        if not isinstance(one, Signature) or one.get("subtask_type") not in (None, "chain"):
            raise ConfigError(f"pipeline {pipeline!r} must return a step or a chain of steps: no groups, no chords")
    return [one.clone() for one in steps]


def fetches(event: Event, pipeline: str) -> bool:
    """Return whether a pipeline reads the event's object. False for one that cannot be built: its run says why."""
    try:
        return any(step.task == FETCH for step in steps_of(event, pipeline))
    except Exception:  # noqa: BLE001 - a pipeline is foreign code; publish records its error
        return False


def title_of(event: Event) -> str:
    """Return what Flower shows of a run: names and ids only."""
    what = str(event.object) if event.object else f"record {event.record_id}"
    return f"portal={event.portal} event={event.name} object={what}"


def chain_of(handed: RunRef, event: Event, queue: str) -> Chain:
    """Build the messages of a run. Raise whatever its pipeline raises, and what keeps them from being sent."""
    steps = steps_of(event, handed.pipeline)
    title = title_of(event)
    run = {"portal": event.portal, "run": handed.run, "attempt": handed.attempt}
    ours = [_is_ours(each) for each in steps]
    if not ours[-1]:
        # A step of another stack cannot record: our outcome task follows it.
        steps.append(_told(contract.TASK_SUCCEEDED, run, by_us=False, immutable=True))
        ours.append(False)
    root = uuid()
    for position, each in enumerate(steps):
        header = StepHeader(
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
            headers={**(each.options.get("headers") or {}), contract.HEADER_WORK: asdict(header)},
            argsrepr=title,
            kwargsrepr="",
            link_error=[_told(contract.TASK_FAILED, run, by_us=ours[position])],
        )
    first, *rest = steps
    if not ours[0] and not first.immutable:
        first.args = (reference(event, handed.pipeline), *first.args)
    chain = Chain(first, tuple(reversed(rest)))
    _check_sendable(chain)
    return chain


def _check_sendable(chain: Chain) -> None:
    """Raise here what Celery would raise while it sends: what comes then is the broker's trouble."""
    first, options = chain.first, dict(chain.first.options)
    task = app.tasks.get(first.task)
    if task is not None and task.typing:
        task.__header__(*first.args, **first.kwargs)
    app.amqp.router.route(dict(options), first.task, first.args, first.kwargs)
    times = {name: options[name] for name in ("countdown", "eta", "expires") if name in options}
    message = app.amqp.create_task_message(
        options["task_id"], first.task, first.args, first.kwargs, chain=list(chain.rest), argsrepr="", **times
    )
    json.dumps((message.body, options["headers"]))


def _told(outcome: str, run: Mapping[str, Any], *, by_us: bool, immutable: bool = False) -> Signature:
    """Return an outcome task. ``by_us``: it is our worker that will send it."""
    signature: Signature = app.signature(outcome, kwargs=run, immutable=immutable, queue=contract.QUEUE_SETTLE)
    _address(signature, by_us=by_us)
    return signature


def _address(signature: Signature, *, by_us: bool) -> None:
    # Whoever sends to a queue declares it. Another stack would declare a classic one, and be refused.
    if config.quorum_queues and not by_us and signature.options["queue"] in app.amqp.queues:
        signature.set(exchange=contract.EXCHANGE, routing_key=signature.options.pop("queue"))


def reference(event: Event, pipeline: str) -> dict[str, Any]:
    """Return what a first step of another stack receives: names and ids, no payload."""
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
