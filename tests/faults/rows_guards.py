"""Row 40: each guard is switched off, one at a time, and the checker must turn red.

What must be red is what only the missing guard brings about: a change also counts as lost when the drain was short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.journal import COPIES
from tests.faults.row import Plan, Play, fault
from tests.faults.sabotage import VARIABLE
from tests.faults.stage import CONNECTOR, Stage, wait_until


def without(
    guard: str,
    name: str = "",
    *,
    red: tuple[str, ...],
    drain_seconds: float = 60.0,
    attempts: int = 1,
    variables: Mapping[str, str] | None = None,
    needs: Path | None = None,
    package: str = "",
    **plan: Any,
) -> Callable[[Play], Play]:
    """Register a row whose workers lack one guard, and give up after so many attempts."""
    environ = {VARIABLE: guard, "B24_MAX_ATTEMPTS": str(attempts), **(variables or {})}
    plan_without = Plan(variables=environ, **plan)
    needed = {"needs": needs, "package": package}
    return fault(40, name or f"without {guard}", plan=plan_without, red=red, drain_seconds=drain_seconds, **needed)


@without("explicit clear=0", red=("unfinished",), drain_seconds=20)
def reads_with_deletion(stage: Stage) -> None:
    stage.change(10)
    stage.noted("clear=0 is not sent")
    wait_until(lambda: stage.history("cleared"), "records are deleted by reading")


@without("connector on every call", "without the connector", red=("stuck",), drain_seconds=20)
def no_connector(stage: Stage) -> None:
    stage.change(10)
    stage.noted("auth_connector is not sent with clear")
    wait_until(lambda: stage.calls("event.offline.clear"), "a clear that clears nothing")


@without("empty-list guard", "without the empty-list guard", red=("unfinished",))
def empty_list(stage: Stage) -> None:
    stage.journal.tell("permanent")
    stage.change(10)
    stage.noted("a clear with an empty list")
    wait_until(lambda: stage.history("cleared"), "a whole batch is cleared", 60)
    stage.journal.tell_nothing()


@without("close only when finished", "closing before all is finished", red=("unfinished",))
def closes_early(stage: Stage) -> None:
    stage.journal.tell("slow", 8, times=1)
    stage.change(10)
    stage.noted("unfinished records are cleared")
    wait_until(lambda: stage.history("cleared"), "a batch is cleared", 60)


@without("look before error", "without a look before error", red=("destroyed",), drain_seconds=90)
def no_look(stage: Stage) -> None:
    stage.journal.tell("permanent", times=4)
    stage.change(4)
    wait_until(lambda: stage.counters.get("runs_failed", 0) >= 4, "all failed")
    stage.control.steal(connector=CONNECTOR, ids=[one["id"] for one in stage.control.records()])
    stage.noted("records moved away before the report")
    wait_until(lambda: stage.history("deleted_by_error"), "error deletes what it should nack", 60)


@without("object queue", "without the object queue", red=("overlap",))
def no_object_queue(stage: Stage) -> None:
    stage.journal.tell("slow", 5)
    deals = stage.change(2)
    for _ in range(3):
        wait_until(lambda: stage.control.state()["free"] == 0, "reserved")
        stage.control.change("crm_deal", "update", ids=deals)
    stage.noted("runs of one object are not serialised")


@without(
    "attempt token", "without the attempt token", red=("overlap", "repeats"), variables={COPIES: "3"}, drain_seconds=150
)
def no_token(stage: Stage) -> None:
    stage.journal.tell("slow", 0.3)
    stage.change(10)
    stage.noted("every message three times")
