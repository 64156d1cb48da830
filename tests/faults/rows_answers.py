"""Rows 13 to 20: answers of the portal are lost, late, doubled, refused or nonsense."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

FAILS = Plan(variables={"B24_MAX_ATTEMPTS": "1"})
CALL_LIFE_SECONDS = 9.0
"""How long what was sent may still be executed, at the scale of a row; an in-doubt window is a second longer."""


def fail_some(stage: Stage, count: int = 3, of: int = 10) -> list[str]:
    """Change objects of which some fail once for good, so that they are nacked. Return their ids."""
    with stage.unseen():
        unlucky = stage.control.change("crm_company", "update", count=count)
        for one in unlucky:
            stage.journal.tell("permanent", name=f"crm_company {one}", times=1)
    stage.change(of)
    return unlucky


@fault(13, "reserving answer lost after commit")
def reserving_answer_lost(stage: Stage) -> None:
    stage.settle_some()
    with stage.meets("event.offline.get", "reset", stage="after", times=1, where={"error": "0"}):
        stage.change(10)


@fault(14, "clear answer lost")
def clear_answer_lost(stage: Stage) -> None:
    stage.settle_some()
    with stage.meets("event.offline.clear", "reset", stage="after", times=2):
        stage.change(10)


@fault(14, "error answer lost, a new change, redrive", plan=FAILS)
def error_answer_lost(stage: Stage) -> None:
    stage.settle_some()
    with stage.meets("event.offline.error", "reset", stage="after", times=1):
        unlucky = fail_some(stage)
    stage.control.change("crm_company", "update", ids=unlucky)
    stage.expect(not stage.history("deleted_by_error"), "nothing was deleted")


@fault(15, "error executed twice", plan=FAILS)
def error_twice(stage: Stage) -> None:
    stage.settle_some()
    with stage.meets("event.offline.error", "twice", times=2):
        unlucky = fail_some(stage)
    stage.control.change("crm_company", "update", ids=unlucky)


@fault(16, "overlapping reserving calls")
def overlapping(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    fault_id = stage.control.fault("event.offline.get", "overlap", seconds=30, times=6)
    for _ in range(4):
        stage.change(8)
        stage.change(8, "crm_contact")
        time.sleep(0.7)
    wait_until(lambda: stage.control.fired(fault_id) >= 4, "reserving calls overlap")
    stage.journal.tell_nothing()
    stage.noted("6 overlapping event.offline.get")
    stage.expect(stage.history("moved"), "records were handed out twice")


def _no_careless_calls(stage: Stage) -> None:
    for call in stage.control.requests():
        params = call.get("params") or {}
        if call["method"] == "event.offline.clear":
            stage.expect(params.get("id"), f"a clear without ids: {call}")
        if call["method"] == "event.offline.get":
            stage.expect(str(params.get("clear")) == "0", f"a get without clear=0: {call}")


def _some_of_fifty(stage: Stage, succeed: int) -> None:
    stage.settle_some()
    with stage.unseen():
        changed = stage.control.change("crm_deal", "add", count=50)
        for one in changed[succeed:]:
            stage.journal.tell("permanent", name=f"crm_deal {one}", times=1)
    stage.noted(f"{succeed} of 50 succeed")
    if succeed < 50:
        wait_until(lambda: stage.counters.get("events_nacked", 0) >= 50 - succeed, "the others are nacked", 90)
    _no_careless_calls(stage)


SLOW_FAILS = Plan(variables=FAILS.variables, scale=0.04)
fault(17, "0 of 50 succeed", plan=SLOW_FAILS, drain_seconds=240)(partial(_some_of_fifty, succeed=0))
fault(17, "1 of 50 succeeds", plan=SLOW_FAILS, drain_seconds=240)(partial(_some_of_fifty, succeed=1))
fault(17, "49 of 50 succeed", plan=FAILS)(partial(_some_of_fifty, succeed=49))


@fault(17, "50 of 50, empty pages, a page of 500", plan=Plan(variables={"B24_BATCH_SIZE": "500"}, objects=60))
def large_page(stage: Stage) -> None:
    _some_of_fifty(stage, 50)
    stage.control.change("crm_contact", "add", count=500)
    wait_until(stage.empty, "500 are settled", 120)
    before = stage.control.state()["requests"].get("event.offline.get", 0)
    wait_until(lambda: stage.control.state()["requests"]["event.offline.get"] > before + 2, "empty pages")
    _no_careless_calls(stage)


LIMIT = {"status": 503, "code": "QUERY_LIMIT_EXCEEDED"}


@fault(18, "503 once")
def limited_once(stage: Stage) -> None:
    stage.settle_some()
    with stage.meets("*", "error", times=1, **LIMIT):
        stage.change(10)


@fault(18, "503 every second call")
def limited_often(stage: Stage) -> None:
    stage.settle_some()
    fault_id = stage.control.fault("*", "error", every=2, **LIMIT)
    stage.change(20)
    wait_until(lambda: stage.control.fired(fault_id) >= 5, "the portal refuses again and again")
    time.sleep(8)
    stage.noted(f"{stage.control.fired(fault_id)} times 503")
    stage.control.disarm(fault_id)


@fault(18, "503 for a while")
def limited_for_long(stage: Stage) -> None:
    stage.settle_some()
    fault_id = stage.control.fault("*", "error", **LIMIT)
    stage.change(20)
    began = time.monotonic()
    time.sleep(8)
    fired = stage.control.fired(fault_id)
    stage.expect(fired / (time.monotonic() - began) <= 4, f"{fired} calls in 8 s while all were refused")
    stage.control.disarm(fault_id)
    stage.noted(f"{fired} times 503")


@fault(
    18,
    "the portal's own bucket",
    plan=Plan(limits_off=False, variables={"B24_REQUESTS_PER_SECOND": "2", "B24_BURST": "50"}),
)
def paced(stage: Stage) -> None:
    stage.control.change("crm_deal", "update", count=20)
    stage.control.start_traffic(rate=8, seed=stage.seed, seconds=20)
    stage.noted("8 changes a second at 2 requests a second")
    wait_until(lambda: not stage.control.traffic()["running"], "the traffic ends")
    refused = stage.control.state()["bucket"]["refused"]
    stage.expect(refused <= 2, f"the portal refused {refused} calls: the pace is too fast")


def _time_limit(stage: Stage, match: str, times: int, reset_in: int | None) -> None:
    stage.settle_some()
    body: dict[str, Any] = {"error": "OPERATION_TIME_LIMIT", "error_description": "too long"}
    if reset_in is not None:
        body["time"] = {"operating": 480, "operating_reset_at": int(time.time()) + reset_in}
    with stage.meets(match, "error", times=times, status=429, body=body):
        stage.change(10)


for name, reset_in in (("reset ahead", 5), ("reset past", -5), ("no reset", None)):
    fault(19, f"429, {name}")(partial(_time_limit, match="batch", times=2, reset_in=reset_in))


@fault(19, "429 of clear while others go on")
def operating_of_clear(stage: Stage) -> None:
    _time_limit(stage, "event.offline.clear", 1, 8)
    before = stage.journal.count("effect")
    stage.change(10, "crm_contact")
    wait_until(lambda: stage.journal.count("effect") >= before + 5, "other methods go on", 30)


TROUBLE: dict[str, dict[str, Any]] = {
    "500 JSON": {"kind": "error"},
    "502 HTML": {"kind": "html"},
    "200 HTML": {"kind": "html", "status": 200},
    "truncated JSON": {"kind": "truncated"},
    "wrong types": {"kind": "wrong_types"},
    "302": {"kind": "redirect"},
    "hang": {"kind": "hang", "seconds": 6},
    "reset": {"kind": "reset"},
    "empty": {"kind": "empty"},
}


def _trouble(stage: Stage, when: str) -> None:
    """Every kind of trouble, on every call of the queue and on the reading of objects, one after the other."""
    stage.settle_some()
    for what, plan in TROUBLE.items():
        ids = [
            stage.control.fault(match, stage=when, times=1, **plan)
            for match in ("event.offline.get", "event.offline.clear", "batch")
        ]
        stage.change(6)
        stage.change(3, "task")
        wait_until(lambda ids=ids: all(stage.control.fired(one) for one in ids), f"{what} everywhere", 90)
        stage.noted(what)


for when in ("before", "after"):
    fault(20, f"trouble {when} execution", drain_seconds=240)(partial(_trouble, when=when))


@fault(20, "trouble of error and list", plan=FAILS, drain_seconds=300)
def trouble_of_reports(stage: Stage) -> None:
    stage.settle_some()
    for what in ("500 JSON", "reset", "wrong types", "hang"):
        ids = [
            stage.control.fault(match, stage="after", times=1, **TROUBLE[what])
            for match in ("event.offline.error", "event.offline.list")
        ]
        fail_some(stage, 2, 4)
        wait_until(lambda ids=ids: all(stage.control.fired(one) for one in ids), f"{what} of both", 120)
        stage.noted(what)
        wait_until(stage.empty, f"all is settled after {what}: the next failures are reports, not redrives", 120)


def _moved(stage: Stage, what: str, address: Callable[[str], str]) -> None:
    """Turn the deployment to another address, as an operator's mistake would, until it is noticed."""
    stage.settle_some()
    endpoint = stage.runtime.store.portals.get(PORTAL).client_endpoint
    stage.change(10)
    stage.move(address(endpoint))
    stage.noted(what)
    wait_until(lambda: stage.runtime.store.portals.get(PORTAL).state != "active", what, 60)
    stage.move(endpoint)


@fault(20, "the portal's name is not found")
def unknown_host(stage: Stage) -> None:
    _moved(stage, "DNS failure", lambda _: "https://no-such-host.invalid/rest/")


@fault(20, "TLS fails")
def no_tls(stage: Stage) -> None:
    _moved(stage, "TLS failure", lambda endpoint: endpoint.replace("http://", "https://"))
