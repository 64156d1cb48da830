"""One example for every sentence about records, `get` and `list`."""

from __future__ import annotations

import pytest

from b24offline.emulator.api.params import Params
from b24offline.emulator.api.request import RestRequest, execute
from b24offline.emulator.state.clock import parse_moment
from b24offline.emulator.state.selection import Selection
from tests.unit.emulator.emulator_bench import CLEAR, ERROR, GET, LIST, START, PortalBench, messages

# A record


def test_record_has_the_documented_fields(bench):
    _, events = bench.reserve(limit=1)
    assert set(events[0]) == {*("ID", "TIMESTAMP_X", "EVENT_NAME", "EVENT_DATA", "EVENT_ADDITIONAL", "MESSAGE_ID")}
    assert events[0]["EVENT_DATA"] == {"FIELDS": {"ID": "1"}}
    assert events[0]["EVENT_ADDITIONAL"] == {"user_id": "1"}
    assert len(events[0]["MESSAGE_ID"]) == 32
    assert parse_moment(events[0]["TIMESTAMP_X"]) == START


def test_process_id_and_error_are_in_list_only(bench):
    assert {"PROCESS_ID", "ERROR"} <= set(bench.rows()[0])
    assert bench.rows()[0]["PROCESS_ID"] == ""
    assert bench.rows()[0]["ERROR"] == "0"


def test_repeat_of_a_free_record_leaves_it_the_user_of_the_first_change(bench):
    bench.portal.account.user_id = 7
    bench.touch("1")
    assert bench.rows()[0]["EVENT_ADDITIONAL"] == {"user_id": "1"}


def test_stamps_have_whole_seconds(bench):
    bench.wait(0.9)
    bench.touch("1")
    assert parse_moment(bench.rows()[0]["TIMESTAMP_X"]) == START


@pytest.mark.parametrize("wrong", ["", "other"])
def test_wrong_connector_matches_nothing_and_answers_true(bench, wrong):
    process_id, events = bench.reserve()
    bench.ok(CLEAR, process_id=process_id, id=["1"], auth_connector=wrong)
    bench.ok(CLEAR, process_id="", auth_connector=wrong)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector=wrong)
    assert bench.ids() == ["1", "2", "3"]
    assert bench.reserve(auth_connector=wrong)[1] == []


def test_only_bound_events_are_queued(bench):
    bench.portal.delete(bench.portal.objects.get("crm_deal", "1"))
    bench.portal.add("crm_lead")
    assert bench.ids() == ["1", "2", "3"]


@pytest.mark.parametrize("method", [GET, LIST, CLEAR, ERROR])
def test_other_users_and_webhooks_are_refused(bench, method):
    outcome = execute(bench.portal, RestRequest(method, Params({}), webhook=True))
    assert (outcome.status, outcome.body["error"]) == (403, "WRONG_AUTH_TYPE")
    bench.portal.account.admin = False
    assert bench.refused(method, process_id="x", message_id=[]) == (403, "ACCESS_DENIED")
    assert len(bench.portal.queue) == 3


def test_reserving_needs_its_feature(bench):
    bench.portal.licence.rest_offline_extended = False
    assert bench.refused(GET, clear=0, auth_connector="crm") == (403, "WRONG_LICENSE")
    assert bench.ok("feature.get", CODE="rest_offline_extended") == {"value": "N"}
    assert len(bench.ok(GET, auth_connector="crm")["events"]) == 3


@pytest.mark.parametrize("method", [GET, LIST, CLEAR, ERROR])
def test_connectors_need_their_feature(bench, method):
    bench.portal.licence.rest_auth_connector = False
    refused = bench.refused(method, process_id="x", message_id=[], auth_connector="crm")
    assert refused == (403, "WRONG_LICENSE")


# event.offline.get


def test_get_deletes_by_default(bench):
    answer = bench.ok(GET, auth_connector="crm", limit=2)
    assert answer["process_id"] is None
    assert [row["ID"] for row in answer["events"]] == ["1", "2"]
    assert bench.ids() == ["3"]


@pytest.mark.parametrize("clear", [1, "1", True, "N", None, "false", ""])
def test_only_an_explicit_zero_keeps_get_from_deleting(bench, clear):
    bench.ok(GET, auth_connector="crm", clear=clear)
    assert bench.ids() == []


@pytest.mark.parametrize("clear", [0, "0", False])
def test_get_1_reserves_with_a_fresh_process_id_and_hides(bench, clear):
    first, events = bench.reserve(limit=2, clear=clear)
    second, others = bench.reserve(clear=clear)
    assert [row["ID"] for row in events] == ["1", "2"]
    assert [row["ID"] for row in others] == ["3"]
    assert first != second
    assert bench.reserve()[1] == []


def test_get_4_overlapping_calls_may_hand_out_the_same_records(bench):
    first, events = bench.reserve(limit=2)
    bench.touch("1")
    second, again = bench.portal.queue.reserve(START, "crm", Selection(), nacked=False, overlap_seconds=60)
    assert [row["ID"] for row in events] == ["1", "2"]
    assert [row.id for row in again] == [2, 3, 4]
    assert [row["PROCESS_ID"] for row in bench.rows()] == [first, second, second, second]


def test_get_5_lost_answers_can_be_found_in_the_list(bench):
    bench.reserve(limit=2)
    assert [row["ID"] for row in bench.rows(**{">PROCESS_ID": ""})] == ["1", "2"]
    assert [row["ID"] for row in bench.rows(**{"=PROCESS_ID": ""})] == ["3"]


@pytest.mark.parametrize("limit", [0, -1, "x"])
def test_get_limit_is_a_number_above_zero(bench, limit):
    assert bench.refused(GET, clear=0, auth_connector="crm", limit=limit) == (400, "ERROR_ARGUMENT")


def test_get_default_limit_is_50_and_has_no_maximum():
    bench = PortalBench.new("ONCRMDEALADD")
    bench.deals(120)
    assert len(bench.reserve(limit=60)[1]) == 60
    assert len(bench.reserve()[1]) == 50


@pytest.mark.parametrize("condition", ["!ID", "@ID", "%EVENT_NAME", "PROCESS_ID", "=ERROR", "NAME"])
def test_get_knows_few_filters(bench, condition):
    assert bench.refused(GET, clear=0, auth_connector="crm", filter={condition: "1"}) == (
        400,
        "ERROR_ARGUMENT",
    )


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"ID": "2"}, ["2"]),
        ({"=ID": 2}, ["2"]),
        ({">ID": "1"}, ["2", "3"]),
        ({">=ID": "1", "<ID": 3}, ["1", "2"]),
        ({"<=id": 2}, ["1", "2"]),
        ({"=EVENT_NAME": "OnCrmDealUpdate"}, ["1", "2", "3"]),
        ({"=EVENT_NAME": "ONTASKADD"}, []),
        ({">TIMESTAMP_X": "2020-01-01T00:00:00+00:00"}, ["1", "2", "3"]),
        ({"<TIMESTAMP_X": "2020-01-01 00:00:00"}, []),
        ([], ["1", "2", "3"]),
    ],
)
def test_get_filters_by_each_field_and_operation(bench, condition, found):
    assert [row["ID"] for row in bench.reserve(filter=condition)[1]] == found


# event.offline.list


def test_list_pages_by_50_with_total_and_next():
    bench = PortalBench.new("ONCRMDEALADD")
    bench.deals(120)
    first = bench.call(LIST, auth_connector="crm").body
    assert (len(first["result"]), first["total"], first["next"]) == (50, 120, 50)
    last = bench.call(LIST, auth_connector="crm", start="100").body
    assert (len(last["result"]), last["total"], last.get("next")) == (20, 120, None)
    assert last["result"][0]["ID"] == "101"


def test_list_orders_by_id_unless_told_otherwise(bench):
    bench.wait(3)
    bench.touch("1")
    assert bench.ids() == ["1", "2", "3"]
    rows = bench.ok(LIST, auth_connector="crm", order={"TIMESTAMP_X": "ASC"})
    assert [row["ID"] for row in rows] == ["2", "3", "1"]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({"@ID": ["1", 3]}, ["1", "3"]),
        ({"@EVENT_NAME": ["ONCRMDEALUPDATE"]}, ["1", "2", "3"]),
        ({"%EVENT_NAME": "dealup"}, ["1", "2", "3"]),
        ({"=ERROR": 1}, []),
        ({"ERROR": "0", ">ID": 2}, ["3"]),
        ({"=PROCESS_ID": "nobody"}, []),
    ],
)
def test_list_filters_by_each_field_and_operation(bench, condition, found):
    assert [row["ID"] for row in bench.rows(**condition)] == found


def test_list_has_no_negation(bench):
    assert bench.refused(LIST, auth_connector="crm", filter={"!PROCESS_ID": ""}) == (400, "ERROR_ARGUMENT")


def test_unknown_filters_may_be_ignored(bench):
    bench.portal.quirks = bench.portal.quirks.changed({"unknown_filter_is_error": False})
    assert [row["ID"] for row in bench.rows(**{"!PROCESS_ID": ""})] == ["1", "2", "3"]
