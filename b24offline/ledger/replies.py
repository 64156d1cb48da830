"""What the scripts of the ledger reply: one JSON object each, its fields by name, validated here once.

Names and types are those of the scripts. Large numbers, as ids and attempts, come as texts, because Lua's cjson writes
14 digits only. An empty table of Lua is ``{}`` in JSON, whether it was meant as a list or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from b24offline.events import Event

Outcome = Literal["succeeded", "failed", "superseded", "unfinished"]
Unsettled = Literal["gone", "busy", "damaged"]
DeadLettered = Literal["dead_lettered", "kept", "moved", "done"]


class _FromJson:
    """An event in the form of `Event.to_json`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        del source, handler
        return core_schema.no_info_plain_validator_function(Event.from_json)


def _list(value: Any) -> Any:
    return [] if value == {} else value


_StoredEvent = Annotated[Event, _FromJson()]
_Names = Annotated[tuple[str, ...], BeforeValidator(_list)]


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run handed out: what a message needs to start it."""

    run: str
    attempt: int

    @property
    def pipeline(self) -> str:
        """The name behind the record's delivery: ``123@1775203200/deal_changed``."""
        return self.run.partition("/")[2]

    @property
    def delivery(self) -> str:
        """The record and its stamp: ``123@1775203200``."""
        return self.run.partition("/")[0]


_Runs = Annotated[tuple[RunRef, ...], BeforeValidator(_list)]


@dataclass(frozen=True, slots=True)
class StepLease:
    """A step that may run.

    Attributes:
        event: what the run works for.
        failures: counted errors of the run.
        retrying: whether its record is nacked on the portal.
        seen_ms: when its batch was opened, or its run redriven.
        tries: how often the run was handed out.
        step_failures: counted errors of this step.
    """

    event: _StoredEvent
    failures: int
    retrying: bool
    seen_ms: int
    tries: int
    step_failures: int


@dataclass(frozen=True, slots=True)
class Completion:
    """Whether an outcome was recorded, the next run of the object queue, and batches whose last outcome this was."""

    recorded: bool
    settleable: _Names = ()
    next: RunRef | None = None


@dataclass(frozen=True, slots=True)
class Overdue:
    """What a sweep has to do: runs to publish, batches to settle, and exhausted runs, to be dead-lettered or, if they
    are, to be looked after. ``lost``: a key that tells which batches are open."""

    runs: _Runs
    batches: _Names
    exhausted: _Runs = ()
    lost: bool = False


@dataclass(frozen=True, slots=True)
class SettleLease:
    """A batch under the settle lease. ``outcomes``: record id -> outcome; ``now_ms`` is the ledger's clock."""

    process_id: str
    token: str
    now_ms: int
    first_seen_ms: int
    outcomes: dict[int, Outcome]
    events: dict[int, _StoredEvent]


@dataclass(frozen=True, slots=True)
class PollLease:
    """The right to one reserving call, released after an answer that is known.

    ``unanswered``: nobody knows the answer to the call of the lease before, so it may have left orphans.
    """

    token: str
    epoch: int
    unanswered: bool = False


@dataclass(frozen=True, slots=True)
class PollRefused:
    """No reserving call now. ``reason``: "busy", "full" (open batches), "over_quota" (bytes of their events) or
    "recovering" (after loss of the ledger)."""

    reason: Literal["busy", "full", "over_quota", "recovering"]
    wait_seconds: float
    epoch: int | None = None


RUN_REFS: Final = TypeAdapter(_Runs)
STEP_LEASE: Final = TypeAdapter(StepLease)
STEP_COUNTS: Final = TypeAdapter(dict[Literal["failures", "step_failures"], int])
COMPLETION: Final = TypeAdapter(Completion)
OVERDUE: Final = TypeAdapter(Overdue)
SETTLE: Final = TypeAdapter[SettleLease | Unsettled](SettleLease | Unsettled)
POLL: Final = TypeAdapter[PollLease | PollRefused](PollLease | PollRefused)
