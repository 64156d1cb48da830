"""Row 40: each guard is switched off, one at a time, and the checker must turn red.

What must be red is what only the missing guard brings about: a change also counts as lost when the drain was short.
"""

from __future__ import annotations

from tests.faults.journal import COPIES
from tests.faults.row import Plan, fault
from tests.faults.sabotage import VARIABLE
from tests.faults.stage import CONNECTOR, Stage, wait_until


def without(guard: str, *, scale: float = Plan.scale, **variables: str) -> Plan:
    """Return a deployment whose workers lack one guard, and give up at the first error."""
    return Plan(scale=scale, variables={VARIABLE: guard, "B24_MAX_ATTEMPTS": "1", **variables})


@fault(40, "without explicit clear=0", plan=without("explicit clear=0"), red=("unfinished",), drain_seconds=20)
def reads_with_deletion(stage: Stage) -> None:
    stage.change(10)
    stage.noted("clear=0 is not sent")
    wait_until(lambda: stage.history("cleared"), "records are deleted by reading")


@fault(40, "without the connector", plan=without("connector on every call"), red=("stuck",), drain_seconds=20)
def no_connector(stage: Stage) -> None:
    stage.change(10)
    stage.noted("auth_connector is not sent with clear")
    wait_until(lambda: stage.calls("event.offline.clear"), "a clear that clears nothing")


@fault(40, "without the empty-list guard", plan=without("empty-list guard"), red=("unfinished",), drain_seconds=60)
def empty_list(stage: Stage) -> None:
    stage.journal.tell("permanent")
    stage.change(10)
    stage.noted("a clear with an empty list")
    wait_until(lambda: stage.history("cleared"), "a whole batch is cleared", 60)
    stage.journal.tell_nothing()


@fault(
    40,
    "closing before all is finished",
    plan=without("close only when finished"),
    red=("unfinished",),
    drain_seconds=60,
)
def closes_early(stage: Stage) -> None:
    stage.journal.tell("slow", 8, times=1)
    stage.change(10)
    stage.noted("unfinished records are cleared")
    wait_until(lambda: stage.history("cleared"), "a batch is cleared", 60)


@fault(40, "without a look before error", plan=without("look before error"), red=("destroyed",), drain_seconds=90)
def no_look(stage: Stage) -> None:
    stage.journal.tell("permanent", times=4)
    stage.change(4)
    wait_until(lambda: stage.counters.get("runs_failed", 0) >= 4, "all failed")
    stage.control.steal(connector=CONNECTOR, ids=[one["id"] for one in stage.control.records()])
    stage.noted("records moved away before the report")
    wait_until(lambda: stage.history("deleted_by_error"), "error deletes what it should nack", 60)


@fault(40, "without the object queue", plan=without("object queue"), red=("overlap",), drain_seconds=60)
def no_object_queue(stage: Stage) -> None:
    stage.journal.tell("slow", 5)
    deals = stage.change(2)
    for _ in range(3):
        wait_until(lambda: stage.control.state()["free"] == 0, "reserved")
        stage.control.change("crm_deal", "update", ids=deals)
    stage.noted("runs of one object are not serialised")


@fault(40, "without the attempt token", plan=without("attempt token", **{COPIES: "3"}), red=("overlap", "repeats"))
def no_token(stage: Stage) -> None:
    stage.journal.tell("slow", 0.3)
    stage.change(10)
    stage.noted("every message three times")
