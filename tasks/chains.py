"""Build the messages of a run: call its pipeline, give each step its header. Nothing is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from celery.canvas import Signature, _chain
from celery.exceptions import QueueNotFound
from celery.utils import uuid
from kombu.utils import json

from b24offline import contract
from b24offline.errors import ConfigError
from b24offline.events import routes
from b24offline.settings import config
from b24offline.tasks.celery_app import app
from b24offline.tasks.messages import is_sendable, run_of

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

    def as_map(self) -> dict[str, Any]:
        """Return it as a message carries it."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> StepHeader | None:
        """Read a message's header. Return None when it has another form, as a newer version may write it."""
        try:
            return cls(**{name: header[name] for name in cls.__slots__})
        except KeyError:
            return None


@dataclass(frozen=True, slots=True)
class Chain:
    """The first step of a run, and the later ones, last first, as Celery carries them in a message.

    ``runs``: how many runs the message is for; a chunk has several.
    """

    first: Signature[Any]
    rest: tuple[Signature[Any], ...]
    runs: int = 1


def bulk_size(pipeline: str) -> int | None:
    """Return how many events one call of a bulk pipeline's step works on, at most; None for another pipeline."""
    return routes.bulk(pipeline)


def steps_of(event: Event, pipeline: str) -> list[Signature[Any]]:
    """Return the steps of a pipeline for an event. Raise what the pipeline raises, and `ConfigError` for what it
    returns.
    """
    function = routes.pipeline(pipeline)
    if function is None:
        raise ConfigError(f"no pipeline {pipeline!r} is loaded: see B24_PIPELINES")
    returned = function(event)
    steps: list[Signature[Any]] = []
    for step in returned.tasks if isinstance(returned, _chain) else [returned]:
        if not isinstance(step, Signature) or step.get("subtask_type") not in (None, "chain"):
            raise ConfigError(f"pipeline {pipeline!r} must return a step or a chain of steps: no groups, no chords")
        steps.append(step.clone())
    _check_bulk(pipeline, steps)
    return steps


def _check_bulk(pipeline: str, steps: list[Signature[Any]]) -> None:
    """Raise `ConfigError` where a bulk step is in another pipeline, or a bulk pipeline has other steps."""
    in_bulk = [bool(getattr(app.tasks.get(str(step.task)), "in_bulk", False)) for step in steps]
    if bulk_size(pipeline) is None:
        if any(in_bulk):
            raise ConfigError(f"pipeline {pipeline!r} has a bulk step: @route(..., bulk=50)")
    elif in_bulk != [True] or steps[0].immutable:
        raise ConfigError(f"bulk pipeline {pipeline!r} must return one bulk step, name.s()")


def fetches(event: Event, pipeline: str) -> bool:
    """Return whether a pipeline reads the event's object; False where it cannot be built, which its run reports."""
    try:
        return any(step.task == FETCH or _reads(step) for step in steps_of(event, pipeline))
    except Exception:  # noqa: BLE001 - a pipeline is a user's code; `publish` records its error
        return False


def title_of(event: Event) -> str:
    """Return what Flower shows for a run: names and ids only."""
    what = str(event.object) if event.object else f"record {event.record_id}"
    return f"portal={event.portal} event={event.name} object={what}"


def chain_of(ref: RunRef, event: Event, queue: str) -> Chain:
    """Build the messages of a run. Raise what its pipeline raises, and what would keep the messages from being sent."""
    steps = steps_of(event, ref.pipeline)
    title = title_of(event)
    run: dict[str, Any] = {"portal": event.portal, "run": ref.run, "attempt": ref.attempt}
    ours = [_is_ours(step) for step in steps]
    if not ours[-1]:
        # A step of another application cannot record its outcome: our outcome task follows it.
        steps.append(_outcome(contract.TASK_SUCCEEDED, run, by_us=False, immutable=True))
        ours.append(False)
    plain = (
        queue in app.amqp.queues and all(ours) and not any(step.args or step.kwargs or step.options for step in steps)
    )
    failed = {by_us: _outcome(contract.TASK_FAILED, run, by_us=by_us) for by_us in set(ours)}
    root = uuid()
    for position, step in enumerate(steps):
        header = StepHeader(
            **run,
            step=position,
            last=position == len(steps) - 1,
            gives_event=position == 0 and ours[0] and not step.immutable,
            title=title,
        )
        if ours[position]:
            # In each message: the worker that sends it may be another application's, which does not know our routes.
            step.options.setdefault("queue", queue)
            if position and not ours[position - 1]:
                _address(step, by_us=False)
        step.options.update(
            task_id=root if position == 0 else uuid(),
            root_id=root,
            headers={**(step.options.get("headers") or {}), contract.HEADER_WORK: header.as_map()},
            argsrepr=title,
            kwargsrepr="",
            link_error=[failed[ours[position]]],
        )
    first, *rest = steps
    if not ours[0] and not first.immutable:
        first["args"] = (reference(event, ref.pipeline), *first.args)
    chain = Chain(first, tuple(reversed(rest)))
    if not plain:  # else all that the messages hold was made here
        check_sendable(chain)
    return chain


def check_sendable(chain: Chain) -> None:
    """Raise now what Celery would raise while it sends, so that an error of sending is always the broker's."""
    first, options = chain.first, dict(chain.first.options)
    name = str(first.task)
    task: Any = app.tasks.get(name)
    if task is not None and task.typing:
        task.__header__(*first.args, **first.kwargs)
    try:
        app.amqp.router.route(dict(options), name, first.args, first.kwargs)
    except QueueNotFound as error:
        queue = options.get("queue")
        raise ConfigError(f"step {name} goes to queue {queue}, which B24_EXTERNAL_QUEUES does not name") from error
    run = run_of(options["headers"])
    for step in (first, *chain.rest):
        if not is_sendable(step, run, "chain", app.amqp.queues):
            queue = step.get("options", {}).get("queue")
            raise ConfigError(f"step {step['task']} goes to queue {queue}, which B24_EXTERNAL_QUEUES does not name")
    times = {name: options[name] for name in ("countdown", "eta", "expires") if name in options}
    message = app.amqp.create_task_message(
        options["task_id"], name, first.args, first.kwargs, chain=list(chain.rest), argsrepr="", **times
    )
    json.dumps((message.body, options["headers"]))


def _outcome(task: str, run: Mapping[str, Any], *, by_us: bool, immutable: bool = False) -> Signature[Any]:
    """Return an outcome task. ``by_us``: whether one of our workers will send it."""
    signature: Signature[Any] = app.signature(task, kwargs=run, immutable=immutable, queue=contract.QUEUE_SETTLE)
    _address(signature, by_us=by_us)
    return signature


def _address(signature: Signature[Any], *, by_us: bool) -> None:
    # The sender declares the queue. Another application would declare a classic one, and be refused.
    if config.quorum_queues and not by_us and signature.options["queue"] in app.amqp.queues:
        signature.set(exchange=contract.EXCHANGE, routing_key=signature.options.pop("queue"))


def reference(event: Event, pipeline: str) -> dict[str, Any]:
    """Return what a first step of another application receives: names and ids, no payload."""
    return {
        "portal": event.portal,
        "event": event.name,
        "action": event.action,
        "entity": event.object.entity if event.object else None,
        "object_id": event.object.object_id if event.object else None,
        "record_id": event.record_id,
        "idempotency_key": event.idempotency_key(pipeline),
    }


def _reads(signature: Signature[Any]) -> bool:
    return bool(getattr(app.tasks.get(str(signature.task)), "reads_objects", False))


def _is_ours(signature: Signature[Any]) -> bool:
    return bool(getattr(app.tasks.get(str(signature.task)), "records_outcome", False))
