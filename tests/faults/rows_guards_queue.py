"""Row 40: guards of the queue protocol, missed only when calls of the portal meet in a certain order.

Each play keeps to what the protocol assumes of a portal: no call is executed later than 180 s after it was sent, and no
reserving call outlives 75 s. So with the guard on nothing is lost by the same play. Where a play waits for something
that happens only with the guard off, it goes on after a while. What must be red is what only a destructive call brings
about: a change can also count as lost because the drain was short.
"""

from __future__ import annotations

import time
from typing import Any, Final

from tests.faults.rows_answers import fail_some
from tests.faults.rows_failover import older_copy_mid_report
from tests.faults.rows_guards import without
from tests.faults.stage import CONNECTOR, Stage
from tests.support.waiting import comes, wait_until

LIFE_SECONDS: Final = 180.0
"""How long any call may live, unscaled."""
RESERVING_SECONDS: Final = 75.0
"""How long a reserving call may live, unscaled."""
MARGIN: Final = 0.9
"""What part of these a play uses at most."""


def _hold_reports(stage: Stage, **more: Any) -> int:
    return stage.control.fault("event.offline.error", "hold", seconds=60, **more)


# Eight, to settle beside slow handlers.
@without("in-doubt window", "without the in-doubt window", red=("destroyed",), scale=0.2, concurrency=8)
def no_in_doubt(stage: Stage) -> None:
    """A report is under way, and what it is about has a newer record: it is cleared before it is nacked."""
    stage.settle_some()
    life = LIFE_SECONDS * stage.plan.scale * MARGIN
    late = stage.control.fault("event.offline.error", "late", seconds=life, times=1)
    unlucky = fail_some(stage)
    wait_until(lambda: stage.control.fired(late), "a report is under way", 90)
    sent = time.monotonic()
    stage.noted("event.offline.error executed late")
    failed = {int(one["id"]) for one in stage.control.records() if one["subject"][0] == "crm_company"}
    stage.journal.tell("slow", life)  # so that the newer records are there when the report is executed
    stage.control.change("crm_company", "update", ids=unlucky)

    def cleared() -> bool:
        return failed <= {int(one["id"]) for one in stage.history("cleared")}

    comes(cleared, life - (time.monotonic() - sent))
    wait_until(lambda: not stage.control.state()["late_calls"], "the report is executed")
    stage.journal.tell_nothing()


@without("75 s rule", "without the 75 s rule", red=("destroyed",), drain_seconds=30, scale=0.2)
def reports_young_batch(stage: Stage) -> None:
    """A reserving call that overlaps with the one of the batch moves its records between the look and the report."""
    stage.settle_some()
    report = _hold_reports(stage, times=1)
    stage.journal.tell("permanent", times=4)
    stage.change(4)
    wait_until(lambda: stage.counters.get("runs_failed", 0) >= 4, "all failed")
    overlap = RESERVING_SECONDS * stage.plan.scale * MARGIN
    comes(lambda: stage.control.held(report), overlap / 2)
    stage.control.fault("event.offline.get", "overlap", seconds=overlap, times=1, where={"error": "0"})
    wait_until(lambda: stage.history("moved"), "records move to another batch", overlap)
    stage.noted("an overlapping reserving call between look and report")
    stage.control.disarm(report)


@without("process-id guard", "without the process-id guard", red=("destroyed",), drain_seconds=20)
def empty_process_id(stage: Stage) -> None:
    """A report without its process id deletes the reserved records that it should nack."""
    stage.journal.tell("permanent", times=4)
    stage.change(4)
    stage.noted("the process id is lost on the way to the call")
    wait_until(lambda: stage.calls("event.offline.error"), "a report", 60)


@without("no report of nacked records", "reporting nacked records", red=("destroyed",), drain_seconds=15)
def reports_nacked(stage: Stage) -> None:
    """A retrying record fails for good and is nacked again: it stays reserved, and the newer event is deleted.

    Off with it: that the run of a retrying record never fails for good, and that a list without the record proves
    nothing about newer ones. While one of these holds, nothing asks for the report.
    """
    stage.settle_some()
    with stage.unseen():
        unlucky = stage.control.change("crm_company", "update", count=3)
        for one in unlucky:
            stage.journal.tell("permanent", name=f"crm_company {one}", times=2)
    wait_until(lambda: stage.control.state()["free_nacked"] >= 3, "failed events are nacked", 90)
    report = _hold_reports(stage)
    wait_until(lambda: stage.counters.get("batches_retrying", 0) >= 3, "they are redriven", 60)
    comes(lambda: stage.control.held(report), 12)
    stage.control.change("crm_company", "update", ids=unlucky)
    stage.noted("changes while retrying records are nacked")
    stage.control.disarm(report)


@without(
    "supersede by greater id only", "superseding by any other record", red=("unfinished",), drain_seconds=30, scale=0.1
)
def superseded_by_older(stage: Stage) -> None:
    """The older record ran on the older state and waits for its clear, while the newer one fails."""
    stage.settle_some()
    first = stage.control.fault("event.offline.clear", "hold", times=1, seconds=60)
    [deal] = stage.change(1)
    wait_until(lambda: stage.control.held(first), "the clear of the older record is under way")
    [older] = stage.control.records()
    again = stage.control.fault("event.offline.clear", "hold", seconds=60, where={"process_id": older["process_id"]})
    stage.journal.tell("permanent", name=f"crm_deal {deal}", times=1)
    stage.control.change("crm_deal", "update", ids=[deal])
    stage.noted("a clear that is late, and a newer record that fails")
    newer = older["id"] + 1

    def decided() -> bool:
        return any(int(one["id"]) == newer for one in stage.history("cleared", "nacked"))

    wait_until(decided, "the newer record is cleared, or nacked", LIFE_SECONDS * stage.plan.scale)
    stage.control.disarm(first)
    stage.control.disarm(again)


@without(
    "in-doubt window of redrive",
    "redriving within the in-doubt window",
    red=("destroyed",),
    drain_seconds=40,
    scale=0.1,
)
def redriven_at_once(stage: Stage) -> None:
    """The network delivers a report twice, the second time while the nacked record is retrying and has a newer one.

    Off with it: the wait of a nacked record before it is redriven, which alone is longer than any call lives.
    """
    stage.settle_some()
    unlucky = fail_some(stage)
    wait_until(lambda: stage.history("nacked"), "failed events are nacked", 60)
    executed = time.monotonic()
    [report] = stage.calls("event.offline.error")[:1]
    done = stage.journal.count("effect")
    life = LIFE_SECONDS * stage.plan.scale * MARGIN
    comes(lambda: stage.journal.count("effect") >= done + len(unlucky), life - (time.monotonic() - executed))
    stage.control.change("crm_company", "update", ids=unlucky)
    stage.services.client.call(report["method"], {**report["params"], "auth_connector": CONNECTOR})
    stage.noted("event.offline.error executed a second time, late")


# An adoption that recovery refused comes again after a third of a sighting: 135 of the 162 s that the report waits.
@without("in-doubt window after ledger loss", "adopting at once after ledger loss", red=("destroyed",), scale=0.25)
def adopted_at_once(stage: Stage) -> None:
    """A report is under way when the ledger is lost; its batch is adopted and cleared, and there is a newer change.

    Off with it: that an orphan is seen twice, an in-doubt window apart, before it is adopted.
    """
    stage.settle_some()
    report = _hold_reports(stage, times=1)
    unlucky = fail_some(stage)
    wait_until(lambda: stage.control.held(report), "a report is under way", 60)
    sent = time.monotonic()
    retrying = {int(one["id"]) for one in stage.control.records()}
    stage.redis.flushall()
    stage.noted("ledger lost while a report is under way")

    def cleared() -> bool:
        return retrying <= {int(one["id"]) for one in stage.history("cleared")}

    life = LIFE_SECONDS * stage.plan.scale * MARGIN
    comes(cleared, life - (time.monotonic() - sent))
    stage.control.change("crm_company", "update", ids=unlucky)
    stage.control.disarm(report)


@without("recovery pause", "without the recovery pause", red=("destroyed",), drain_seconds=30, scale=0.2)
def reserves_after_loss(stage: Stage) -> None:
    """A reserving call that was sent before the ledger was lost moves records of the first batch after it.

    Off with it: the age from which a batch may be nacked, which covers for every overlap.
    """
    stage.settle_some()
    report = _hold_reports(stage, times=1)
    stage.journal.tell("permanent", times=4)
    stage.redis.flushall()
    lost = time.monotonic()
    stage.noted("ledger lost while a reserving call is under way")
    stage.change(4)
    life = RESERVING_SECONDS * stage.plan.scale * MARGIN
    comes(lambda: stage.control.held(report), life - (time.monotonic() - lost))
    stage.control.steal(connector=CONNECTOR, ids=[one["id"] for one in stage.control.records()])
    stage.noted("that call is executed")
    stage.control.disarm(report)


@without("epoch bound to the server", "an epoch for any server", red=("destroyed",), scale=0.2, concurrency=8)
def restored_mid_report(stage: Stage) -> None:
    """The window of a report is forgotten: what it is about has a newer record, and is cleared before it is nacked."""
    older_copy_mid_report(stage)
