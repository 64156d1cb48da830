"""Build the messages of chunks: one for many runs of a bulk pipeline. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from celery.canvas import Signature
from celery.utils import uuid
from kombu.utils import json

from b24offline import contract
from b24offline.delivery import Ready, chunks
from b24offline.errors import ConfigError
from b24offline.ledger import RunRef
from b24offline.tasks.celery_app import app
from b24offline.tasks.chains import Chain, bulk_size, check_sendable, steps_of, title_of

if TYPE_CHECKING:
    from b24offline.delivery import PortalServices
    from b24offline.events import Event


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The header of a chunk's message: which runs it is for. No customer data.

    Attributes:
        portal: name of the portal.
        pipeline: that of all its runs.
        runs: [delivery of the record, attempt token] each.
        repeat: how often these attempts were sent before.
        queue: the queue of the message, and of those that follow it.
        title: what Flower shows.
    """

    portal: str
    pipeline: str
    runs: list[tuple[str, int]]
    repeat: int
    queue: str
    title: str

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> ChunkHeader | None:
        """Read a message's header. Return None when it has another form."""
        try:
            found = cls(**{name: header[name] for name in cls.__slots__})
            return replace(found, runs=[(str(delivery), int(attempt)) for delivery, attempt in found.runs])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def refs(self) -> tuple[RunRef, ...]:
        """The runs."""
        return refs_of(self.pipeline, self.runs)


def refs_of(pipeline: str, runs: Iterable[Sequence[Any]]) -> tuple[RunRef, ...]:
    """Return runs as the ledger names them, from [delivery, attempt] each."""
    return tuple(RunRef(f"{delivery}/{pipeline}", int(attempt)) for delivery, attempt in runs)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run of a bulk pipeline that was handed out, and the step that its pipeline returned."""

    ref: RunRef
    event: Event
    step: Signature[Any]
    kind: str


def waiting(ref: RunRef, event: Event, queue: str) -> Waiting:
    """Call the pipeline of a run. Raise what it raises, and what would keep its message from being sent."""
    (step,) = steps_of(event, ref.pipeline)
    if step.options.keys() - {"queue"}:
        raise ConfigError(f"bulk step {step.task} takes no option but a queue, not {', '.join(sorted(step.options))}")
    step.options.setdefault("queue", queue)
    if step.options["queue"] not in app.amqp.queues:
        raise ConfigError(f"step {step.task} goes to queue {step.options['queue']}, which is none of ours")
    return Waiting(ref, event, step, json.dumps([ref.pipeline, step.task, step.args, step.kwargs, step.options]))


def chunk_chains(services: PortalServices, runs: Sequence[Waiting]) -> list[Chain]:
    """Return a message for each chunk of these runs."""
    if not runs:
        return []
    crashed = services.chunks.crashed([one.ref for one in runs])
    known = {one.ref: one for one in runs}
    ready = [Ready(one.ref, one.kind, bulk_size(one.ref.pipeline) or 1, one.ref in crashed) for one in runs]
    return [_chain([known[ref] for ref in refs]) for refs in chunks(ready)]


def _chain(runs: Sequence[Waiting]) -> Chain:
    first = runs[0]
    header = ChunkHeader(
        portal=first.event.portal,
        pipeline=first.ref.pipeline,
        runs=[_as_row(one.ref) for one in runs],
        repeat=0,
        queue=str(first.step.options["queue"]),
        title=title_of(first.event) if len(runs) == 1 else _title(first.event.portal, first.ref.pipeline, len(runs)),
    )
    return chunk_message(first.step, header)


def chunk_message(step: Signature[Any], header: ChunkHeader) -> Chain:
    """Return the message of a chunk. ``step``: what its pipeline returned."""
    step = step.clone()
    errback: Signature[Any] = app.signature(
        contract.TASK_CHUNK_FAILED,
        kwargs={"portal": header.portal, "pipeline": header.pipeline, "runs": header.runs},
        queue=contract.QUEUE_SETTLE,
    )
    root = uuid()
    step.options.update(
        task_id=root,
        root_id=root,
        queue=header.queue,
        headers={**(step.options.get("headers") or {}), contract.HEADER_WORK: asdict(header)},
        argsrepr=header.title,
        kwargsrepr="",
        link_error=[errback],
    )
    chain = Chain(step, (), len(header.runs))
    check_sendable(chain)
    return chain


def following(header: ChunkHeader, step: Signature[Any], runs: Iterable[RunRef], wait_seconds: float) -> Chain:
    """Return the message by which some runs of a chunk come again after a wait, at a later position."""
    rows = [_as_row(run) for run in runs]
    title = header.title if len(rows) == len(header.runs) else _title(header.portal, header.pipeline, len(rows))
    chain = chunk_message(step, replace(header, runs=rows, repeat=header.repeat + 1, title=title))
    if wait_seconds > 0:
        chain.first.options["countdown"] = wait_seconds
    return chain


def _as_row(ref: RunRef) -> tuple[str, int]:
    return ref.delivery, ref.attempt


def _title(portal: str, pipeline: str, runs: int) -> str:
    return f"portal={portal} pipeline={pipeline} events={runs}"
