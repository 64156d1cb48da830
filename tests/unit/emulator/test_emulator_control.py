"""The control API."""

from __future__ import annotations

import pytest

from b24offline.emulator import EmulatorError, wait_until


def test_changes_are_logged_and_read_back(caller):
    caller.bind()
    before = caller.control.state()["seq"]
    (made,) = caller.control.change("crm_deal", "add", fields={"TITLE": "By hand"})
    caller.control.change("crm_deal", "update", ids=[made])
    caller.control.change("crm_deal", "delete", ids=[made])
    changes = list(caller.control.changes(before))
    assert [(entry["id"], entry["action"]) for entry in changes] == [
        (made, "add"),
        (made, "update"),
        (made, "delete"),
    ]
    found = [entry for entry in caller.control.objects("crm_deal", since_changes=True) if entry["id"] == made]
    assert found[0]["deleted"] is True
    assert all(entry["changed"] for entry in caller.control.objects(since_changes=True))
    assert not all(entry["changed"] for entry in caller.control.objects())
    assert found[0]["changed"] == changes[-1]["seq"]
    history = [entry for entry in caller.control.history(before) if entry["object"] == made]
    assert [(entry["kind"], entry["entity"]) for entry in history] == [("queued", "crm_deal")]
    with pytest.raises(EmulatorError, match="do not exist"):
        caller.control.change("crm_deal", "update", ids=[made])


def test_objects_are_what_their_methods_return(caller):
    methods = {"crm_lead": "crm.lead.get", "crm_contact": "crm.contact.get", "crm_company": "crm.company.get"}
    for entity, method in methods.items():
        entry = caller.control.objects(entity)[0]
        assert caller.result(method, id=entry["id"]) == entry["data"]
    item, task = caller.control.objects("crm_item")[0], caller.control.objects("task")[0]
    item_type, number = item["id"].split(":")
    assert caller.result("crm.item.get", entityTypeId=item_type, id=number)["item"] == item["data"]
    assert caller.result("tasks.task.get", taskId=task["id"])["task"] == task["data"]


def test_traffic_is_counted_exactly(caller):
    before = caller.control.state()["changes"]
    caller.control.start_traffic(rate=2000, seconds=0.1, seed=3, add=2, update=5, delete=2)
    wait_until(lambda: not caller.control.traffic()["running"], 60)
    report = caller.control.stop_traffic()
    assert report["count"] == 200
    assert caller.control.state()["changes"] - before == 200
    caller.control.start_traffic(rate=200)
    wait_until(lambda: caller.control.traffic()["count"] > 5, 60)
    stopped = caller.control.stop_traffic()
    assert caller.control.state()["changes"] - before == 200 + stopped["count"]
    assert stopped["running"] is False


def test_backlog_marks_and_steal_change_the_counts(caller):
    caller.bind()
    assert caller.control.backlog(300, entities=["crm_deal"]) == 300
    assert caller.control.marks(connector="crm", count=100) == 100
    state = caller.control.state()
    assert (state["free"], state["free_nacked"]) == (200, 100)
    assert state["push"] == {"delivered": 0, "failed": 0, "refused": 0, "answers": {}}
    reserved = caller.reserve(limit=10).json()["result"]["process_id"]
    stolen = caller.control.steal(connector="crm", process_id=reserved, count=4)
    assert caller.control.state()["processes"] == {reserved: 6, stolen["process_id"]: 4}


def test_any_event_can_be_queued(caller):
    caller.result("event.bind", event="ONUSERADD", event_type="offline", auth_connector="odd")
    assert caller.control.raise_event("onuseradd", False) == 1
    rows = caller.result("event.offline.list", auth_connector="odd")
    assert rows[0]["EVENT_DATA"] is False
    assert caller.control.raise_event("ONTASKADD", {}) == 0


def test_licence_user_and_limits_are_switched(caller):
    caller.control.licence(rest_offline_extended=False)
    assert caller.reserve().json()["error"] == "WRONG_LICENSE"
    caller.control.licence(rest_offline_extended=True)
    caller.control.user(admin=False)
    assert caller.reserve().json()["error"] == "ACCESS_DENIED"
    caller.control.user(admin=True)
    caller.control.limits(off=False, holds=1, drain=0.001)
    assert [caller.post("user.admin").status_code for _ in range(2)] == [200, 503]
    caller.control.limits(off=True)
    with pytest.raises(EmulatorError, match="unknown keys"):
        caller.control.licence(everything=True)


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("licence", {"commercial": "false"}, "commercial takes bool, not 'false'"),
        ("user", {"admin": 0}, "admin takes bool, not 0"),
        ("user", {"admin": False, "user_id": "7"}, "user_id takes int, not '7'"),
        ("user", {"user_id": True}, "user_id takes int, not True"),
        ("app", {"installed": "false"}, "installed takes bool, not 'false'"),
        ("app", {"removed": "true"}, "removed takes bool, not 'true'"),
        ("limits", {"holds": 1, "off": "false"}, "off takes bool, not 'false'"),
        ("limits", {"holds": 1, "reset": "false"}, "reset takes bool, not 'false'"),
        ("clock", {"advance_seconds": -1}, "only moved ahead"),
        ("backlog", {"count": 6, "entities": ["crm_deal", "crm_dael"]}, "entities is one of .*, not 'crm_dael'"),
        ("backlog", {}, "count is missing"),
        ("event", {"data": {}}, "name is missing"),
        ("change", {"entity": "crm_item", "action": "add", "entityTypeId": 5}, "entityTypeId is one of .*, not 5"),
        ("change", {"entity": "crm_deal", "action": "add", "entityTypeId": 1046}, "entityTypeId is for crm_item"),
    ],
)
def test_wrong_values_are_named_and_change_nothing(caller, path, body, reason):
    def shown():
        state = caller.control.state()
        return state["licence"], state["account"], state["objects"], state["seq"], state["bucket"]["holds"]

    before = shown()
    with pytest.raises(EmulatorError, match=reason):
        caller.control.send("POST", path, body)
    assert shown() == before


def test_application_removed_and_installed_again(caller):
    caller.bind()
    caller.control.change("crm_deal", "update", count=2)
    old = caller.control.app(removed=True)["refresh_token"]
    assert caller.post("user.admin").status_code == 401
    state = caller.control.state()
    assert (state["records"], state["bindings"]) == (0, [])
    assert caller.control.app(removed=False)["refresh_token"] != old
    caller.token = caller.control.issue_token()["access_token"]
    assert caller.result("event.get") == []


def test_requests_are_logged_without_tokens(caller):
    before = caller.control.state()["seq"]
    caller.result("event.offline.list", auth_connector="crm", filter={">ID": 5})
    caller.post("crm.unknown")
    logged = list(caller.control.requests(before))
    assert [(entry["method"], entry["status"], entry["error"]) for entry in logged] == [
        ("event.offline.list", 200, None),
        ("crm.unknown", 404, "ERROR_METHOD_NOT_FOUND"),
    ]
    assert logged[0]["params"] == {"auth_connector": "crm", "filter": {">ID": 5}}
    assert caller.token not in str(logged)
