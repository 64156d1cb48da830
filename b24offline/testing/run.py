"""Run one pipeline for one event in this process: no server, no worker, no wait."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from celery import _state as celery_state
from celery.exceptions import Ignore

from b24offline.config import Config
from b24offline.contract import HEADER_WORK, STEP_PREFIX
from b24offline.delivery import Fail, RetryIn, read_object
from b24offline.errors import B24OfflineError
from b24offline.events import Event, ObjectKey, routes, shipped_catalogue
from b24offline.ledger import MAX_HELD_ATTEMPTS, Snapshot, StepLease
from b24offline.runtime import Runtime
from b24offline.tasks import app
from b24offline.tasks.bulk import Chunk, answered
from b24offline.tasks.chains import reference, steps_of
from b24offline.tasks.process import using
from b24offline.tasks.step_errors import judge
from b24offline.tasks.steps import Work, carried, run_handler
from b24offline.testing.events import event as event_of
from b24offline.testing.portal import CONNECTOR, Objects, PortalCall, PortalInProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Outcome = Literal["succeeded", "failed", "dead-lettered", "waiting"]
_TASKS: Final[Any] = vars(celery_state)["_task_stack"]
"""What `celery.current_task` looks at."""
MAX_WAITS: Final = 20
"""Errors in a row that are not counted, after which the run is left as waiting: it would go on for ever."""


@dataclass(frozen=True)
class Retry:
    """A step that failed and was tried again, or its run from the first step."""

    step: str
    error: Exception
    wait_seconds: float
    counted: bool


@dataclass(frozen=True)
class HandedOff:
    """A step that another Celery application would have run."""

    task: str
    queue: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass
class Ran:
    """What became of an event.

    Attributes:
        outcome: "succeeded"; "failed" (it would be nacked); "dead-lettered"; "waiting" (errors that are not counted).
        error: what ended it, None where it succeeded.
        result: what the last step returned.
        retries: each error that was followed by another try, with the wait that a worker would have kept.
        handed_off: steps of other applications.
        calls: of the portal's methods, in order, those of a batch one by one.
        mirrored: object -> data, None for a deleted one, of what `upsert` wrote.
        woken: events that its own writes queued for it again; empty where they carried the connector.
    """

    outcome: Outcome = "waiting"
    error: Exception | None = None
    result: Any = None
    retries: list[Retry] = field(default_factory=list)
    handed_off: list[HandedOff] = field(default_factory=list)
    calls: list[PortalCall] = field(default_factory=list)
    mirrored: dict[str, Any] = field(default_factory=dict)
    woken: list[str] = field(default_factory=list)
    _object: Callable[[ObjectKey], Any] = field(default=lambda _: None, repr=False)
    _portal: str = ""

    @property
    def writes(self) -> list[PortalCall]:
        """The calls that may have changed something."""
        return [call for call in self.calls if call.writes]

    def object(self, named: str) -> Any:
        """Return an object of the portal after the run: `ran.object("crm_deal 5")`."""
        entity, _, object_id = named.partition(" ")
        return self._object(ObjectKey(self._portal, entity, object_id))


def run_pipeline(
    event: Event | str,
    *,
    objects: Objects | None = None,
    answers: Mapping[str, Any] | None = None,
    pipeline: str | Callable[..., Any] = "",
    handoffs: Mapping[str, Any] | None = None,
) -> Ran:
    """Run the pipeline of an event and return what became of it. The modules of your pipelines must be imported.

    Args:
        event: of `testing.event`, or its name and object: `"ONCRMDEALUPDATE 5"`.
        objects: what the portal has: `{"crm_deal 5": {"STAGE_ID": "WON"}}`.
        answers: method -> its result, a function of its parameters, `refused(...)`, or `in_turn(...)` of these.
        pipeline: which one, where the event has several: its name, or the function.
        handoffs: task of another application -> what it returns.

    Raise ValueError where no pipeline, or more than one, takes the event.
    """
    if isinstance(event, str):
        name, _, object_id = event.partition(" ")
        event = event_of(name, object_id or None)
    chosen = _chosen(event, pipeline if isinstance(pipeline, str) else pipeline.__name__)
    portal = PortalInProcess(objects or {}, answers or {}, routes.event_names, event.portal)
    ran = Ran(calls=portal.calls, _object=portal.object, _portal=event.portal)
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(Config.load({"B24_DATA_DIR": folder}))
        try:
            with using(runtime):
                _Run(event, chosen, portal, ran, handoffs or {}).to_its_end()
            if (Path(folder) / "b24offline.db").exists():
                ran.mirrored = {f"{row.entity} {row.object_id}": row.data for row in runtime.mirror.rows(event.portal)}
        finally:
            runtime.close()
    ran.woken = portal.queued()
    return ran


def _chosen(event: Event, pipeline: str) -> str:
    names = routes.pipelines_for(event.name)
    if pipeline and pipeline not in names:
        raise ValueError(
            f"{event.name} does not run through {pipeline}. It runs through: {', '.join(names) or 'none'}."
        )
    if not pipeline and len(names) != 1:
        raise ValueError(
            f"{event.name} runs through several pipelines: choose one with pipeline=, of {', '.join(names)}."
            if names
            else f"No pipeline takes {event.name}. Import the module of your pipelines."
        )
    return pipeline or names[0]


class _Run:
    """One run, over all its attempts."""

    def __init__(
        self, event: Event, pipeline: str, portal: PortalInProcess, ran: Ran, handoffs: Mapping[str, Any]
    ) -> None:
        self._event, self._pipeline, self._portal, self._ran, self._handoffs = event, pipeline, portal, ran, handoffs
        self._failures: dict[int, int] = {}
        self._attempt = 1
        self._seen_ms = _now_ms()
        self._services: Any = SimpleNamespace(
            client=portal.client,
            portal=SimpleNamespace(name=event.portal, connector=CONNECTOR),
            reader=SimpleNamespace(read=self._read, read_all=self._read_all, answered_seconds_ago=lambda *_: 0.0),
            ledger=SimpleNamespace(now_ms=_now_ms),
        )

    def to_its_end(self) -> None:
        """Start the run until it has an outcome."""
        while self._ran.outcome == "waiting" and len(self._ran.retries) <= MAX_WAITS:
            if self._pass():
                break
            self._attempt += 1

    def _pass(self) -> bool:
        """Run the steps from the first one. Return whether the run has ended, False where it starts again."""
        result: Any = None
        steps = steps_of(self._event, self._pipeline)
        for position, signature in enumerate(steps):
            following = steps[position + 1] if position + 1 < len(steps) else None
            while True:
                try:
                    result = self._stepped(position, signature, result, following)
                    break
                except Ignore:
                    self._ran.outcome = "succeeded"
                    return True
                except Exception as error:  # noqa: BLE001 - whatever a handler raises is judged as a worker does
                    verdict = self._judged(position, signature, error)
                if verdict != "again":
                    return verdict == "ended"
        self._ran.outcome, self._ran.error, self._ran.result = "succeeded", None, result
        return True

    def _stepped(self, position: int, signature: Any, result: Any, following: Any) -> Any:
        task = app.tasks.get(str(signature.task))
        before = () if signature.immutable else (result if position else self._event,)
        if not getattr(task, "records_outcome", False):
            if not position and not signature.immutable:
                before = (reference(self._event, self._pipeline),)
            queue = str(signature.options.get("queue") or "")
            sent = HandedOff(str(signature.task), queue, (*before, *signature.args), dict(signature.kwargs))
            self._ran.handed_off.append(sent)
            return self._handoffs.get(sent.task)
        work = Work(
            self._event, self._pipeline, self._attempt, sum(self._failures.values()), self._services, self._seen_ms
        )
        if getattr(task, "in_bulk", False):
            return self._in_a_chunk(task, work, signature)
        with _Request(task):
            found = run_handler(task, work, (*before, *signature.args), dict(signature.kwargs))
        if following is not None and not following.immutable:
            return carried(str(signature.task), found)
        return found

    def _in_a_chunk(self, task: Any, work: Work, signature: Any) -> None:
        """Call a bulk step with a chunk that has this event only. Raise the error that it says the event has."""
        with _Request(task):
            failed = answered(task, Chunk(self._services, [work]), signature.args, signature.kwargs)
        for error in failed.values():
            raise error

    def _judged(self, position: int, signature: Any, error: Exception) -> Literal["again", "restart", "ended"]:
        task = app.tasks[str(signature.task)]
        counted = sum(self._failures.values())
        step_failures = self._failures.get(position, 0)
        lease = StepLease(
            cast("Any", self._event), counted, self._event.retrying, self._seen_ms, self._attempt, step_failures
        )
        ended, verdict = judge(task, self._services, self._pipeline, lease, error)
        self._ran.error = ended
        if not isinstance(verdict, RetryIn):
            self._ran.outcome = "failed" if isinstance(verdict, Fail) else "dead-lettered"
            return "ended"
        name = str(signature.task).removeprefix(STEP_PREFIX)
        self._ran.retries.append(Retry(name, ended, verdict.wait_seconds, verdict.counted))
        if verdict.counted:
            self._failures[position] = step_failures + 1
            if self._event.retrying and counted + 1 >= MAX_HELD_ATTEMPTS:
                self._ran.outcome = "dead-lettered"
                return "ended"
        if len(self._ran.retries) > MAX_WAITS:
            return "ended"
        return "restart" if verdict.restart else "again"

    def _read(self, key: ObjectKey, not_before_ms: int) -> Snapshot:
        del not_before_ms  # each read is a new one
        return Snapshot(key, _now_ms(), read_object(self._portal.client, shipped_catalogue(), key))

    def _read_all(
        self, wanted: Mapping[ObjectKey, int]
    ) -> tuple[dict[ObjectKey, Snapshot], dict[ObjectKey, Exception]]:
        found: dict[ObjectKey, Snapshot] = {}
        refused: dict[ObjectKey, Exception] = {}
        for key, not_before_ms in wanted.items():
            try:
                found[key] = self._read(key, not_before_ms)
            except B24OfflineError as error:
                refused[key] = error
        return found, refused


class _Request:
    """Makes a task the one that runs now, as a step's own `retry` needs it."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __enter__(self) -> None:
        _TASKS.push(self._task)
        self._task.push_request(headers={HEADER_WORK: {"run": "test"}}, id="test", retries=0)

    def __exit__(self, *_: object) -> None:
        self._task.pop_request()
        _TASKS.pop()


def _now_ms() -> int:
    return round(time.time() * 1000)
