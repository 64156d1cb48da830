"""Rows 39 and 41 to 43: calls that come late, records that move, changes within a second, and all of it at random."""

from __future__ import annotations

import os
import time

from tests.faults.row import Plan, fault
from tests.faults.rows_answers import QUIET_SECONDS, fail_some
from tests.faults.stage import CONNECTOR, Stage, wait_until

FAILS = Plan(variables={"B24_MAX_ATTEMPTS": "1"})
MINUTES = "B24OFFLINE_TEST_MINUTES"
"""How long the random mix lasts, in the environment of the rows."""


@fault(41, "error executed late, a repeat and a supersession in between", plan=FAILS, drain_seconds=240)
def late_error(stage: Stage) -> None:
    stage.settle_some()
    fault_id = stage.control.fault("event.offline.error", "late", seconds=QUIET_SECONDS * 0.8, times=2)
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
    wait_until(lambda: stage.control.state()["free_marked"] >= 3, "failed events are marked", 90)
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


@fault(39, "random mix", plan=Plan(workers=2, objects=300), repeats=None, overlap=True, drain_seconds=400)
def random_mix(stage: Stage) -> None:
    minutes = float(os.environ.get(MINUTES, "1"))
    stage.settle_some()
    stage.control.start_traffic(rate=8, seed=stage.seed, hot=20)
    deadline = time.monotonic() + minutes * 60
    while time.monotonic() < deadline:
        _one_fault(stage)
        time.sleep(stage.rng.uniform(0.5, 3))
        stage.restart()
    stage.control.stop_traffic()
    stage.control.disarm()
    stage.journal.tell_nothing()
    stage.restart()


def _one_fault(stage: Stage) -> None:
    rng = stage.rng
    kind = rng.choice(
        ["kill", "kill", "flush", "answer", "answer", "answer", "late", "steal", "tokens", "handler", "crash", "crash"]
    )
    method = rng.choice(
        ["event.offline.get", "event.offline.clear", "event.offline.error", "event.offline.list", "batch"]
    )
    if kind == "kill":
        rng.choice(stage.workers).kill()
    elif kind == "flush":
        stage.redis.flushall()
    elif kind == "answer":
        trouble = rng.choice(["reset", "html", "truncated", "wrong_types", "error", "empty"])
        stage.control.fault(method, trouble, stage=rng.choice(["before", "after"]), times=rng.randint(1, 3))
        kind = f"{trouble} of {method}"
    elif kind == "late":
        stage.control.fault(rng.choice(["event.offline.clear", "event.offline.error"]), "late", seconds=2.5, times=1)
    elif kind == "steal":
        stage.control.steal(connector=CONNECTOR, count=rng.randint(1, 5))
    elif kind == "tokens":
        stage.control.expire_tokens()
    elif kind == "handler":
        stage.journal.tell(rng.choice(["fail", "kill", "kill_after", "slow"]), 0.5, times=rng.randint(1, 8))
    else:
        stage.arm(rng.choice(POINTS))
    stage.noted(kind)


POINTS = (
    "poll.leased",
    "poll.opened",
    "dispatch.started",
    "step.passed",
    "outcome.settleable",
    "settle.leased",
    "settle.looked",
    "settle.before_clear",
    "settle.before_error",
    "settle.before_end",
    "tokens.saved",
)
