"""Batches: order, references, errors, the shape of empty maps."""

from __future__ import annotations

import pytest

from b24offline.emulator.server.faults import FaultPlan


def test_commands_run_in_order_and_see_earlier_results(bench):
    answer = bench.ok(
        "batch",
        cmd={
            "new": "crm.deal.add?fields[TITLE]=A%26B",
            "read": "crm.deal.get?id=$result[new]",
            "list": "crm.deal.list?filter[%3DID]=$result[new]&select[]=ID",
            "again": "crm.deal.get?id=$result[list][0][ID]",
            "text": "crm.deal.add?fields[TITLE]=copy of $result[read][TITLE]",
        },
    )
    assert answer["result"]["read"]["TITLE"] == "A&B"
    assert answer["result"]["again"]["ID"] == "4"
    assert bench.ok("crm.deal.get", id=5)["TITLE"] == "copy of A&B"
    assert answer["result_total"] == {"list": 1}
    assert set(answer["result_time"]) == set(answer["result"])


def test_empty_maps_are_lists(bench):
    assert bench.ok("batch", cmd={}) == {
        name: [] for name in ("result", "result_error", "result_total", "result_next", "result_time")
    }
    assert bench.ok("batch", cmd={"a": "user.admin"})["result_error"] == []


def test_numbered_results_are_lists(bench):
    assert bench.ok("batch", cmd=["user.admin", "user.admin"])["result"] == [True, True]
    answer = bench.ok("batch", cmd={"0": "nothing", "1": "user.admin"})
    assert answer["result"] == {"1": True}
    assert answer["result_error"][0]["error"] == "ERROR_METHOD_NOT_FOUND"


def test_errors_do_not_stop_a_batch_unless_told_to(bench):
    commands = {"a": "user.admin", "b": "crm.deal.get?id=99", "c": "user.admin"}
    answer = bench.ok("batch", cmd=commands)
    assert set(answer["result"]) == {"a", "c"}
    assert answer["result_error"] == {"b": {"error": "", "error_description": "Not found"}}
    assert "b" not in answer["result_time"]
    halted = bench.ok("batch", cmd=commands, halt=1)
    assert set(halted["result"]) == {"a"}
    assert set(halted["result_error"]) == {"b"}


def test_each_command_beyond_50_fails_by_itself(bench):
    answer = bench.ok("batch", cmd={f"c{number}": "user.admin" for number in range(52)})
    assert len(answer["result"]) == 50
    assert {entry["error"] for entry in answer["result_error"].values()} == {"ERROR_BATCH_LENGTH_EXCEEDED"}
    assert set(answer["result_error"]) == {"c50", "c51"}


@pytest.mark.parametrize("name", ["batch", "batch.json", "BATCH"])
def test_batches_are_not_nested(bench, name):
    answer = bench.ok("batch", cmd={"a": f"{name}?cmd[x]=user.admin"})
    assert answer["result_error"]["a"]["error"] == "ERROR_BATCH_METHOD_NOT_ALLOWED"


def test_references_that_lead_nowhere_are_empty(bench):
    answer = bench.ok("batch", cmd={"a": "crm.deal.get?id=$result[x][0]"})
    assert answer["result_error"]["a"]["error_description"] == "ID is not defined or invalid"


def test_offline_methods_work_in_batches(bench):
    answer = bench.ok("batch", cmd={"a": "event.offline.get?clear=0&auth_connector=crm&limit=2"})
    assert len(answer["result"]["a"]["events"]) == 2
    assert [row["PROCESS_ID"] == "" for row in bench.rows()] == [False, False, True]


def test_queue_calls_are_logged_with_what_they_name(bench):
    params = {"process_id": "p", "id": ["1"], "auth_connector": "crm"}
    bench.ok("event.offline.clear", **params)
    bench.ok("crm.deal.get", id=1)
    logged = bench.portal.requests.page(0, 99)[-2:]
    assert [entry["params"] for entry in logged] == [params, {}]


def test_queue_commands_are_logged_in_full(bench):
    bench.ok("batch", cmd={"a": "event.offline.get?clear=0&limit=2", "b": "crm.deal.get?id=1"})
    logged = bench.portal.requests.page(0, 99)[-1]
    assert logged["params"] == {"cmd": ["event.offline.get?clear=0&limit=2", "crm.deal.get"]}


@pytest.mark.parametrize("match", ["*", "*.get", "[a-z]*", "?atch*"])
def test_faults_of_requests_spare_the_commands_of_a_batch(bench, match):
    bench.site.faults.arm(FaultPlan(match, "error", every=2))
    answer = bench.ok("batch", cmd={f"c{number}": "crm.deal.get?id=1" for number in range(20)})
    assert len(answer["result"]) == 20
    assert bench.site.faults.as_json()[0]["seen"] == 0


def test_faults_reach_single_commands(bench):
    bench.site.faults.arm(FaultPlan("batch/crm.deal.get", "error", status=429, code="OPERATION_TIME_LIMIT"))
    answer = bench.ok("batch", cmd={"a": "crm.deal.get?id=1", "b": "user.admin"})
    assert answer["result_error"]["a"]["error"] == "OPERATION_TIME_LIMIT"
    assert answer["result"]["b"] is True
