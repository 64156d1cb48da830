"""Bulk steps: `@bulk_step` makes a Celery task that works on a chunk of events and answers which of them failed.

One call of the ledger begins all runs of a chunk, one lease renewal keeps them, one call ends them, each with an
outcome of its own. A chunk that fails whole is taken apart: each event comes again alone, so that a bad one fails
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, overload

from celery import shared_task
from celery.exceptions import Ignore

from b24offline.contract import STEP_PREFIX
from b24offline.delivery import Failed, Permanent, SomeFailed, failures_in
from b24offline.errors import ConfigError
from b24offline.events import RetryRules
from b24offline.failpoints import failpoint
from b24offline.ledger import Snapshot
from b24offline.tasks.chunk_end import ChunkEnd
from b24offline.tasks.chunk_messages import ChunkHeader
from b24offline.tasks.objects import tells_of_deletion
from b24offline.tasks.process import current_runtime, lease_renewer
from b24offline.tasks.step_errors import end_chain
from b24offline.tasks.steps import Step, Work, header_of, limits_of

if TYPE_CHECKING:
    from b24offline.delivery import PortalServices
    from b24offline.rest import StepClient


class Chunk(Sequence[Work]):
    """The events that a bulk step works on: a sequence of what `current` is for a step.

    All are of one portal and one pipeline, and no two of them are of one object.
    """

    def __init__(self, services: PortalServices, works: Sequence[Work]) -> None:
        self._services = services
        self._works = tuple(works)

    @overload
    def __getitem__(self, index: int) -> Work: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Work]: ...
    def __getitem__(self, index: int | slice) -> Work | Sequence[Work]:
        """Return one of them, or some."""
        return self._works[index]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._works)

    def __iter__(self) -> Iterator[Work]:
        """Yield each."""
        return iter(self._works)

    @property
    def portal(self) -> str:
        """Name of the portal."""
        return self._works[0].portal

    @property
    def client(self) -> StepClient:
        """The portal's REST client, as `Work.client`."""
        return self._works[0].client

    def read(self) -> Reads:
        """Read the objects of all events as they are now, in as few requests as the portal allows.

        What was read ahead for this chunk is taken from the ledger. What the portal refuses for one object is a failure
        of its event; what it refuses for all is raised, and the chunk waits.
        """
        return read_objects(self._services, self._works)

    def now_ms(self) -> int:
        """Return the ledger's clock in milliseconds."""
        return self._services.ledger.now_ms()


@dataclass(frozen=True, slots=True)
class Reads:
    """What a chunk read.

    Attributes:
        found: each event that could be read, with its object; an object that is gone has no data.
        failed: the events whose object could not be read: add your own failures, and return them.
    """

    found: tuple[tuple[Work, Snapshot], ...]
    failed: tuple[Failed, ...]


def read_objects(services: PortalServices, works: Iterable[Work]) -> Reads:
    """Read the objects of events in bulk."""
    wanted, failed = {}, []
    for work in works:
        if work.event.object is None:
            pointless = Permanent(f"portal {work.portal}: {work.event.name} points to no object; do not read it")
            failed.append(Failed(work.event, pointless))
        else:
            wanted[work.event.object] = work
    began_ms = services.ledger.now_ms()
    snapshots, refused = services.reader.read_all({key: work.seen_ms for key, work in wanted.items()})
    for key, error in refused.items():
        if tells_of_deletion(wanted[key].event, error):
            snapshots[key] = Snapshot(key, began_ms, None)
        else:
            failed.append(Failed(wanted[key].event, error))
    return Reads(tuple((wanted[key], snapshots[key]) for key in wanted if key in snapshots), tuple(failed))


class BulkStep(Step):
    """A Celery task that works on chunks and records the outcome of each of their runs."""

    abstract = True
    in_bulk = True
    reads_objects = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler; with the header of a chunk under its leases, with an outcome for each run."""
        found = header_of(self.request)
        if found is None:
            return self.run(*args, **kwargs)
        header = ChunkHeader.from_header(found)
        if header is None:
            end_chain(self)
            return "nothing to do: the header has another form"
        return _run_chunk(self, header, args, kwargs)


@overload
def bulk_step(function: Callable[..., Any], /) -> BulkStep: ...
@overload
def bulk_step(
    *,
    reads: bool = False,
    attempts: int | None = None,
    backoff: float | Iterable[float] | None = None,
    final: type[Exception] | Iterable[type[Exception]] | None = None,
) -> Callable[[Callable[..., Any]], BulkStep]: ...
def bulk_step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    reads: bool = False,
    attempts: int | None = None,
    backoff: float | Iterable[float] | None = None,
    final: type[Exception] | Iterable[type[Exception]] | None = None,
) -> Any:
    """Make a bulk step of a function that receives a `Chunk`. It returns nothing, or a `Failed` for each that failed.

    ``reads``: it reads the events' objects with `Chunk.read`, so they are read ahead, those of a whole batch together.
    The other arguments are those of `step`, and hold for each event. Raise `ConfigError`.
    """

    def make(body: Callable[..., Any]) -> BulkStep:
        if not callable(body):
            raise ConfigError(f"@bulk_step makes a step of a function, not of {body!r}; what it is given has a name")
        name = f"{STEP_PREFIX}{body.__module__.removeprefix('b24offline.tasks.')}.{body.__name__}"
        rules = RetryRules.checked(f"step {body.__name__!r}", attempts=attempts, backoff=backoff, final=final)
        task: BulkStep = shared_task(
            base=BulkStep, name=name, max_retries=None, retry_rules=rules, reads_objects=bool(reads)
        )(body)
        return task

    return make if function is None else make(function)


def _run_chunk(task: BulkStep, header: ChunkHeader, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    services = current_runtime().services(header.portal)
    leases = services.chunks.begin(header.refs, header.repeat)
    if not leases:
        end_chain(task)
        return "nothing to do: finished, replaced, or delivered twice"
    failpoint("chunk.begun")
    works = {
        run: Work(lease.event, header.pipeline, lease.tries, lease.failures, services, lease.seen_ms)
        for run, lease in leases.items()
    }
    failed: Mapping[str, Exception] = {}
    whole: Exception | None = None
    renew = partial(services.chunks.renew, tuple(leases), header.repeat)
    try:
        with lease_renewer().keeping(header.portal, header.title, renew, limits_of(task)):
            failed = answered(task, Chunk(services, tuple(works.values())), args, kwargs)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises concerns these runs only
        whole = error
    failpoint("chunk.handled")
    # After the handler: an error of ledger or broker below would otherwise show this error's text as its context.
    return ChunkEnd(task, services, header, leases, task.s(*args, **kwargs)).record(failed, whole)


def answered(task: Any, chunk: Chunk, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Exception]:
    """Call the function of a bulk step. Return delivery -> error of the events that it says have failed.

    Raise what it raises, which is then an error of the whole chunk.
    """
    try:
        answer = task.run(chunk, *args, **kwargs)
    except SomeFailed as some:
        answer = some.failures
    except Ignore:
        answer = None
    return failures_in(answer, {work.event.delivery for work in chunk})
