"""Steps: `@step` makes a Celery task that takes its run's lease, runs the handler and records the outcome.

Sent outside a run, a step is an ordinary task. A message header says that it belongs to a run: the first step of a run
receives the event, and `current()` returns what the step works for.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, overload

from billiard import current_process
from celery import Task, shared_task
from celery.exceptions import Ignore, Retry, SoftTimeLimitExceeded
from kombu.utils import json

from b24offline.contract import HEADER_WORK, STEP_PREFIX
from b24offline.delivery import Permanent, PortalServices
from b24offline.errors import Actor, ConfigError
from b24offline.events import NO_RULES, Event, ObjectKey, RetryRules, routes
from b24offline.failpoints import failpoint
from b24offline.ledger import STEP_STRIDE, Snapshot, StepLease, StepLimits
from b24offline.rest import StepClient
from b24offline.settings import config
from b24offline.tasks.celery_app import app
from b24offline.tasks.chains import StepHeader
from b24offline.tasks.fusing import LIMIT_SHARE, Follower, follower_of
from b24offline.tasks.lighter_tracebacks import drop_traceback, lighten_traceback
from b24offline.tasks.process import current_runtime, lease_renewer
from b24offline.tasks.publish import follow
from b24offline.tasks.step_errors import after_error, end_chain

__all__ = ["NotTransferable", "Permanent", "Step", "Work", "current", "step"]


class NotTransferable(Permanent):
    """A step returned something for the next one that no message can carry."""

    actor: ClassVar[Actor] = "developer"


@dataclass(frozen=True, slots=True)
class Work:
    """What a step works for.

    Attributes:
        event: the event of this run.
        pipeline: the pipeline that runs.
        attempt: 1 for the first start of this run.
        failures: errors of this run that were counted before.
    """

    event: Event
    pipeline: str
    attempt: int
    failures: int
    _services: PortalServices
    _seen_ms: int

    @property
    def portal(self) -> str:
        """Name of the portal."""
        return self.event.portal

    @property
    def client(self) -> StepClient:
        """The portal's REST client, with tokens and within its rate limit; what it writes does not wake us."""
        return StepClient(self._services.client, self.connector)

    @property
    def connector(self) -> str:
        """The portal's `auth_connector`: a write that carries it does not come back as an event."""
        return self._services.portal.connector

    @property
    def idempotency_key(self) -> str:
        """A key for what the step writes to: the same whenever this event runs through this pipeline."""
        return self.event.idempotency_key(self.pipeline)

    def read(self, key: ObjectKey | None = None, *, not_before_ms: int | None = None) -> Snapshot:
        """Return the current state of an object (default: the event's). Never older than the event."""
        wanted = key or self.event.object
        if wanted is None:
            raise Permanent(f"portal {self.portal}: {self.event.name} points to no object that could be read")
        return self._services.reader.read(wanted, self._seen_ms if not_before_ms is None else not_before_ms)

    @property
    def seen_ms(self) -> int:
        """When the event's batch was opened, in milliseconds of the ledger's clock: no older read shows the change."""
        return self._seen_ms

    def now_ms(self) -> int:
        """Return the ledger's clock in milliseconds, which orders the reads and writes of all workers."""
        return self._services.ledger.now_ms()


UNNOTED_SHARE: Final = 1 / 60
"""Part of a lease in which the steps of one message follow each other without telling the ledger: its lease is fresh,
and it holds for them all. Where a step fails, the ledger is told before the error is counted."""
_current: ContextVar[Work | None] = ContextVar("b24offline_work", default=None)


def current() -> Work:
    """Return what the step that runs now works for. Raise `RuntimeError` outside a run."""
    work = _current.get()
    if work is None:
        raise RuntimeError("no run here: current() works inside a step that a pipeline started")
    return work


class Step(Task):  # type: ignore[type-arg] # a subscript exists in the stubs only
    """A Celery task that records the outcome of its run."""

    abstract = True
    records_outcome = True
    typing = False  # the first step is sent without its argument: the event comes from the ledger
    retry_rules: RetryRules = NO_RULES

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler; inside a run under its lease, with its outcome recorded."""
        found = header_of(self.request)
        if found is None:
            return super().__call__(*args, **kwargs)
        header = StepHeader.from_header(found)
        if header is None:
            end_chain(self)
            return "nothing to do: the header has another form"
        return _run_in_lease(self, header, args, kwargs)

    def retry(
        self,
        args: Any = None,
        kwargs: Any = None,
        exc: Any = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Inside a run: fail this attempt with ``exc``, with these waits and attempts instead of the step's own."""
        if header_of(self.request) is None:
            return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries, **options)
        cause: Any = exc or sys.exc_info()[1]
        when: Any = countdown if eta is None else eta
        asked = Retry(exc=cause, when=when)
        asked.max_retries = max_retries  # type: ignore[attr-defined]
        if throw:
            raise asked
        return asked

    def on_retry(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ARG002 - Celery's
        """Keep little of the traceback."""
        drop_traceback(einfo)

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:  # noqa: ARG002
        """Keep little of the traceback."""
        lighten_traceback(einfo)

    def replace(self, sig: Any) -> Any:
        """Raise `ConfigError` inside a run: the replacement would not know its run, and its outcome would be lost."""
        if header_of(self.request) is None:
            return super().replace(sig)
        raise ConfigError(f"step {self.name} cannot replace itself in a run: put the other step into the pipeline")


@overload
def step(function: Callable[..., Any], /) -> Step: ...
@overload
def step(
    *,
    attempts: int | None = None,
    backoff: float | Iterable[float] | None = None,
    final: type[Exception] | Iterable[type[Exception]] | None = None,
) -> Callable[[Callable[..., Any]], Step]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    attempts: int | None = None,
    backoff: float | Iterable[float] | None = None,
    final: type[Exception] | Iterable[type[Exception]] | None = None,
) -> Any:
    """Make a step of a function. The first step of a chain receives the `Event`, later ones the previous result.

    Used bare, or with its own retry rules: ``@step(attempts=3, backoff=(1, 5, 30), final=ValueError)``, waits in
    seconds; see `RetryRules`. What is left out is taken from the pipeline, else from the settings. Raise `ConfigError`.
    """

    def make(body: Callable[..., Any]) -> Step:
        if not callable(body):
            raise ConfigError(f"@step makes a step of a function, not of {body!r}; what it is given has a name")
        name = f"{STEP_PREFIX}{body.__module__.removeprefix('b24offline.tasks.')}.{body.__name__}"
        rules = RetryRules.checked(f"step {body.__name__!r}", attempts=attempts, backoff=backoff, final=final)
        task: Step = shared_task(base=Step, name=name, max_retries=None, retry_rules=rules)(body)
        return task

    return make if function is None else make(function)


def header_of(request: Any) -> Mapping[str, Any] | None:
    """Return the header that says what a message is for, None where it has none."""
    header = (request.headers or {}).get(HEADER_WORK) or request.get(HEADER_WORK)
    return header if isinstance(header, Mapping) else None


def _run_in_lease(task: Step, header: StepHeader, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    services = current_runtime().services(header.portal)
    position = header.step * STEP_STRIDE + task.request.retries
    lease = services.ledger.begin_step(header.run, header.attempt, position)
    if lease is None:
        end_chain(task)
        return "nothing to do: finished, replaced, or delivered twice"
    return _run_step(task, services, _Begun(header, lease, position, position, time.monotonic()), args, kwargs)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step that has its lease.

    Attributes:
        header, lease: its own.
        position: its own.
        noted: that of the step for which the ledger has the lease; an earlier one of the same message, perhaps.
        since: when its message began, on the monotonic clock.
    """

    header: StepHeader
    lease: StepLease
    position: int
    noted: int
    since: float


def _run_step(
    task: Step, services: PortalServices, begun: _Begun, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    header, lease, noted = begun.header, begun.lease, begun.noted
    work = Work(lease.event, header.pipeline, lease.tries, lease.failures, services, lease.seen_ms)
    if header.gives_event:
        args = (lease.event, *args)
    ended: Exception | None = None
    passed: tuple[Any, ...] = ()
    try:
        with lease_renewer().renewing(services.ledger, header.run, header.attempt, noted, limits_of(task)):
            result = run_handler(task, work, args, kwargs)
        following: Any = task.request.chain
        if following and not following[-1].get("immutable"):
            passed = (carried(task.name, result),)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises concerns this run only
        ended = error
    # After the handler: an error of ledger or broker below would otherwise show this error's text as its context.
    if isinstance(ended, Ignore):  # what the handler asked of Celery itself: the chain ends here, and is done
        follow(services, services.ledger.succeed(header.run, header.attempt))
        raise ended from None
    if ended is not None:
        # The error counts for this step; a lease that was lost meanwhile is refused with whatever is recorded.
        lease = _note(services, begun, begun.position) or lease
        return after_error(task, services, header, lease, ended)
    if header.last or not task.request.chain:
        follow(services, services.ledger.succeed(header.run, header.attempt))
        return result
    if follower := _in_this_message(task, begun):
        return _go_on(task, services, begun, follower, passed)
    services.ledger.pass_on(header.run, header.attempt, noted)
    failpoint("step.passed")
    return result


def _in_this_message(task: Step, begun: _Begun) -> Follower | None:
    """Return the step that goes on in this message, None where the next one comes by its own."""
    limits = limits_of(task)
    allowed_seconds = LIMIT_SHARE * min(limits.soft_seconds, limits.hard_seconds)
    if not routes.is_fused(begun.header.pipeline) or time.monotonic() - begun.since > allowed_seconds:
        return None
    return follower_of(task.request, begun.header)


def _go_on(task: Step, services: PortalServices, begun: _Begun, follower: Follower, passed: tuple[Any, ...]) -> Any:
    """Run the next step, with what it is passed. A retry of it goes on by its own message."""
    header, position = follower.header, follower.header.step * STEP_STRIDE
    lease: StepLease | None = begun.lease
    noted = begun.noted
    if time.monotonic() - begun.since > config.timers.lease_seconds * UNNOTED_SHARE:
        lease, noted = _note(services, begun, position), position
    if lease is None:
        end_chain(task)
        return "nothing to do: finished or replaced"
    failpoint("step.passed")
    with follower.entered(task.request, passed) as request:
        end_chain(task)
        try:
            next_begun = _Begun(header, lease, position, noted, begun.since)
            result = _run_step(follower.task, services, next_begun, request.args, request.kwargs)
        except Retry as retry:
            return f"goes on by message: {retry}"
        task.request.chain = request.chain
    return result


def _note(services: PortalServices, begun: _Begun, position: int) -> StepLease | None:
    """Tell the ledger at which step the run is. Return the lease of that step, None where it was lost."""
    if position == begun.noted:
        return begun.lease
    header = begun.header
    return services.ledger.go_on(header.run, header.attempt, begun.noted, position, begun.lease)


def run_handler(task: Any, work: Work, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the function of a step while `current` returns ``work``."""
    token = _current.set(work)
    try:
        return task.run(*args, **kwargs)
    finally:
        _current.reset(token)


def limits_of(task: Step) -> StepLimits:
    """Return how long a step may take: Celery's time limits, which only the prefork pool keeps itself."""
    hard, soft = (task.request.timelimit or (None, None))[:2]
    hard, soft = hard or app.conf.task_time_limit, soft or app.conf.task_soft_time_limit
    interruption = None if current_process().daemon else SoftTimeLimitExceeded
    return StepLimits(hard or math.inf, soft or math.inf, interruption)


def carried(step_name: str, result: object) -> Any:
    """Return a result as the next step receives it.

    Raise `NotTransferable`, an error of this step: found by Celery afterwards, it would look like a crash.
    """
    try:
        return json.loads(json.dumps(result))
    except Exception as error:
        kind = type(result).__name__
        raise NotTransferable(f"step {step_name} returned a {kind} that JSON cannot carry to the next step") from error
