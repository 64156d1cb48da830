"""Rows 41 to 43: calls that come late, records that move, changes within a second."""

from __future__ import annotations

import time

from tests.faults.row import Plan, fault
from tests.faults.rows_answers import CALL_LIFE_SECONDS, fail_some
from tests.faults.stage import CONNECTOR, Stage, wait_until

FAILS = Plan(variables={"B24_MAX_ATTEMPTS": "1"})


@fault(41, "error executed late, a repeat and a supersession in between", plan=FAILS, drain_seconds=240)
def late_error(stage: Stage) -> None:
    stage.settle_some()
    fault_id = stage.control.fault("event.offline.error", "late", seconds=CALL_LIFE_SECONDS * 0.8, times=2)
    unlucky = fail_some(stage)
    wait_until(lambda: stage.control.fired(fault_id), "an error is under way", 90)
    stage.noted("event.offline.error executed late")
    for _ in range(3):
        stage.control.change("crm_company", "update", ids=unlucky)
        time.sleep(1.5)


@fault(42, "records of a batch move between look and report", plan=FAILS, drain_seconds=240)
def moved_records(stage: Stage) -> None:
    """By a reserving call that began with theirs: so within 75 s, after a first look and before a report."""
    stage.settle_some()
    unlucky = fail_some(stage, 4)
    wait_until(lambda: stage.counters.get("runs_failed", 0) >= 4, "four events failed")
    rows = stage.control.records()
    there = [one["id"] for one in rows if one["process_id"] and one["subject"][0] == "crm_company"][:2]
    stage.control.steal(connector=CONNECTOR, ids=there)
    stage.control.change("crm_company", "update", ids=unlucky)
    stage.noted(f"{len(there)} records moved to another process id")
    stage.expect(there, "there was something to move")


@fault(43, "repeats between peek, read and confirm of a redrive", plan=FAILS, drain_seconds=240)
def changed_while_redriven(stage: Stage) -> None:
    stage.settle_some()
    unlucky = fail_some(stage)
    wait_until(lambda: stage.control.state()["free_nacked"] >= 3, "failed events are nacked", 90)
    for match, when, where in (
        ("event.offline.list", "after", {}),
        ("event.offline.get", "before", {"error": "1"}),
        ("event.offline.get", "after", {"error": "1"}),
        ("event.offline.clear", "before", {}),
    ):
        held = stage.control.fault(match, "hold", stage=when, times=1, seconds=3, where=where)
        wait_until(lambda held=held: stage.control.held(held) or stage.empty(), f"{match} is under way", 90)
        stage.control.change("crm_company", "update", ids=unlucky)
        stage.noted(f"changes during {match}")
        stage.control.disarm(held)
