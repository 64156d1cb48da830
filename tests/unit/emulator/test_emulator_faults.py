"""Faults on the wire."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from b24offline.emulator import EmulatorError, wait_until


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("status", 500, ""),
        ("html", 502, "<html>"),
        ("empty", 200, ""),
        ("redirect", 302, ""),
        ("wrong_types", 200, "unexpected"),
        ("error", 500, "INTERNAL_SERVER_ERROR"),
    ],
)
@pytest.mark.parametrize("stage", ["before", "after"])
def test_faults_that_answer_do_so_before_or_after_the_call_is_executed(caller, kind, status, text, stage):
    caller.bind()
    caller.control.change("crm_deal", "update", count=2)
    fault = caller.control.fault("event.offline.*", kind, stage=stage, times=1)
    answer = caller.reserve()
    assert answer.status_code == status
    assert text in answer.text
    assert caller.control.fired(fault) == 1
    assert caller.control.state()["reserved"] == (2 if stage == "after" else 0)
    assert caller.reserve().status_code == 200


@pytest.mark.parametrize("kind", ["reset", "truncated", "hang"])
@pytest.mark.parametrize("stage", ["before", "after"])
def test_faults_that_lose_the_answer_act_before_or_after_the_call(caller, kind, stage):
    caller.bind()
    caller.control.change("crm_deal", "update", count=2)
    caller.control.fault("event.offline.get", kind, stage=stage, times=1, seconds=0.2)
    with pytest.raises(requests.RequestException):
        caller.reserve()
    assert caller.control.state()["reserved"] == (2 if stage == "after" else 0)


def test_broken_rows_are_reserved_and_whole_when_read_again(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=9)
    caller.control.fault("event.offline.get", "broken_rows", stage="after", times=1)
    told = caller.reserve().json()["result"]
    assert caller.control.state()["reserved"] == len(told["events"]) == 9
    whole = {"ID", "TIMESTAMP_X", "EVENT_NAME", "EVENT_DATA", "MESSAGE_ID"}
    broken = [row for row in told["events"] if not (isinstance(row, dict) and whole <= set(row))]
    assert len(broken) == 4, "without a name, a message, data, and one that is no row at all"
    listed = caller.post("event.offline.list", auth_connector="crm").json()["result"]
    assert len(listed) == 9
    assert all(whole <= set(row) for row in listed)


def test_hanging_ends_when_the_caller_leaves(caller):
    fault = caller.control.fault("user.admin", "hang", seconds=60)
    with pytest.raises(requests.Timeout):
        requests.post(caller.endpoint + "user.admin", timeout=0.2)
    assert caller.control.fired(fault) == 1
    wait_until(lambda: caller.control.held(fault) == 0, 60)


def test_control_gets_through_while_calls_are_held(caller):
    fault = caller.control.fault("user.admin", "hold", seconds=60)
    with ThreadPoolExecutor(16) as pool:
        calls = [
            pool.submit(requests.post, caller.endpoint + "user.admin", json={"auth": caller.token}, timeout=30)
            for _ in range(16)
        ]
        wait_until(lambda: caller.control.held(fault) == 16, 60)
        caller.control.disarm(fault)
        assert {call.result().status_code for call in calls} == {200}


def test_errors_say_what_they_are_told(caller):
    body = {"error": "OPERATION_TIME_LIMIT", "time": {"operating_reset_at": 7}}
    caller.control.fault("user.admin", "error", status=429, body=body)
    answer = caller.post("user.admin")
    assert (answer.status_code, answer.json()) == (429, body)


def test_twice_executes_twice(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=2)
    caller.control.fault("event.offline.get", "twice", times=1)
    assert caller.reserve(limit=1).json()["result"]["events"][0]["ID"] == str(caller.control.records()[1]["id"])
    assert caller.control.state()["reserved"] == 2


def test_late_executes_when_the_clock_says_so(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=2)
    caller.control.fault("event.offline.get", "late", times=1, seconds=1000)
    with pytest.raises(requests.ConnectionError):
        caller.reserve()
    assert caller.control.state()["late_calls"] == 1
    assert caller.control.state()["reserved"] == 0
    caller.control.clock(advance_seconds=1000)
    wait_until(lambda: caller.control.state()["reserved"] == 2, 60)


def test_late_calls_are_authorized_when_they_arrive(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=2)
    batch = caller.reserve().json()["result"]
    caller.control.fault("event.offline.error", "late", times=1, seconds=1000)
    told = {"process_id": batch["process_id"], "message_id": [batch["events"][0]["MESSAGE_ID"]]}
    with pytest.raises(requests.ConnectionError):
        caller.post("event.offline.error", auth_connector="crm", **told)
    caller.control.expire_tokens()
    caller.control.clock(advance_seconds=1000)
    wait_until(lambda: caller.control.state()["late_calls"] == 0, 60)
    wait_until(lambda: caller.control.state()["nacked"] == 1, 10)


def test_late_calls_fill_the_bucket_when_they_arrive(caller):
    caller.control.limits(off=False, holds=1, drain=0.001)
    try:
        caller.control.fault("user.admin", "late", times=1, seconds=1000)
        with pytest.raises(requests.ConnectionError):
            caller.post("user.admin")
        assert caller.post("user.admin").status_code == 503
    finally:
        caller.control.limits(off=True)
    caller.control.clock(advance_seconds=1000)
    wait_until(lambda: caller.control.state()["late_calls"] == 0, 60)


def test_refused_calls_are_not_late(caller):
    caller.control.expire_tokens()
    before = caller.control.state()["seq"]
    fault = caller.control.fault("user.admin", "late", times=1, seconds=1000)
    assert caller.post("user.admin").json()["error"] == "expired_token"
    assert caller.control.fired(fault) == 1
    assert caller.control.state()["late_calls"] == 0
    (logged,) = caller.control.requests(before)
    assert (logged["status"], logged["error"], logged["fault"]) == (401, "expired_token", "late")


def test_late_refreshes_are_decided_when_they_are_executed(caller):
    caller.control.fault("oauth.token", "late", times=1, seconds=1000)
    old = caller.control.issue_token()["refresh_token"]
    with pytest.raises(requests.ConnectionError):
        caller.grant(old)
    assert caller.control.issue_token()["refresh_token"] == old
    caller.control.clock(advance_seconds=1000)
    wait_until(lambda: caller.control.issue_token()["refresh_token"] != old, 60)


def test_hold_lasts_until_the_plan_is_removed(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=1)
    fault = caller.control.fault("event.offline.get", "hold", stage="after", seconds=60)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(caller.reserve)
        wait_until(lambda: caller.control.state()["reserved"] == 1, 60)
        assert not answer.done()
        caller.control.disarm(fault)
        assert len(answer.result(10).json()["result"]["events"]) == 1


def test_overlapping_reservations_hand_out_the_same_records(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=3)
    first = caller.reserve().json()["result"]
    caller.control.fault("event.offline.get", "overlap", times=1, seconds=60)
    second = caller.reserve().json()["result"]
    assert [row["ID"] for row in first["events"]] == [row["ID"] for row in second["events"]]
    assert caller.control.state()["processes"] == {second["process_id"]: 3}


def test_faults_choose_calls_by_count_parameters_and_chance(caller):
    every = caller.control.fault("user.admin", "status", every=3)
    assert [caller.post("user.admin").status_code for _ in range(6)] == [200, 200, 500, 200, 200, 500]
    caller.control.disarm(every)
    caller.control.fault("crm.deal.get", "status", where={"id": "2"})
    assert [caller.post("crm.deal.get", id=number).status_code for number in (1, 2, 3)] == [200, 500, 200]
    never = caller.control.fault("*", "status", probability=0)
    assert caller.post("user.admin").status_code == 200
    assert caller.control.fired(never) == 0


def test_a_refresh_is_executed_though_its_answer_is_lost(caller):
    caller.control.fault("oauth.token", "reset", stage="after", times=1)
    old = caller.control.issue_token()["refresh_token"]
    with pytest.raises(requests.ConnectionError):
        caller.grant(old)
    assert caller.control.issue_token()["refresh_token"] != old


@pytest.mark.parametrize(
    "plan",
    [
        *({"kind": "nothing"}, {"stage": "between"}, {"every": 0}, {"probability": 2}, {"unknown": 1}),
        *({"match": "batch/crm.*", "kind": "reset"}, {"match": "batch/*", "kind": "late"}),
    ],
)
def test_wrong_plans_are_refused(caller, plan):
    with pytest.raises(EmulatorError):
        caller.control.send("POST", "faults", plan)
    assert all(row.get("removed") for row in caller.control.faults())
