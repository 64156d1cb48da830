"""One example for every sentence about `clear` and `error`."""

from __future__ import annotations

import pytest

from b24offline.emulator.state.clock import parse_moment
from b24offline.emulator.state.selection import Selection
from tests.unit.emulator.emulator_bench import CLEAR, ERROR, START, PortalBench, messages

# event.offline.clear


@pytest.mark.parametrize("lists", [{}, {"id": []}, {"message_id": []}, {"id": None}, {"id": ["1"], "message_id": []}])
def test_clear_1_without_ids_is_the_whole_batch(bench, lists):
    process_id, _ = bench.reserve(limit=2)
    assert bench.ok(CLEAR, process_id=process_id, auth_connector="crm", **lists) is True
    assert bench.ids() == ["3"]


def test_clear_2_empty_process_id_deletes_all_free_records_even_nacked(bench):
    process_id, events = bench.reserve(limit=1)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    bench.reserve(filter={"=ID": 2})
    bench.ok(CLEAR, process_id="", auth_connector="crm")
    assert bench.ids() == ["2"]


def test_clear_2_reaches_over_all_connectors():
    bench = PortalBench.new("ONCRMDEALUPDATE", connectors=("crm", "erp"))
    bench.touch(*bench.deals(1))
    bench.reserve(auth_connector="erp")
    bench.touch("1")
    bench.ok(CLEAR, process_id="", auth_connector="crm")
    assert (bench.ids("crm"), bench.ids("erp")) == ([], ["2"])


def test_clear_2_may_stay_within_the_connector():
    bench = PortalBench.new("ONCRMDEALUPDATE", connectors=("crm", "erp"))
    bench.touch(*bench.deals(1))
    bench.portal.quirks = bench.portal.quirks.changed({"clear_free_in_all_connectors": False})
    bench.ok(CLEAR, process_id="", auth_connector="crm")
    assert (bench.ids("crm"), bench.ids("erp")) == ([], ["2"])


def test_clear_3_message_id_wins(bench):
    process_id, events = bench.reserve()
    bench.ok(CLEAR, process_id=process_id, id=["1"], message_id=messages(events)[1:2], auth_connector="crm")
    assert bench.ids() == ["1", "3"]


def test_clear_by_id_touches_this_batch_only(bench):
    first, _ = bench.reserve(limit=1)
    second, _ = bench.reserve(limit=1)
    bench.ok(CLEAR, process_id=first, id=[1, 2, 3], auth_connector="crm")
    assert bench.ids() == ["2", "3"]
    bench.ok(CLEAR, process_id=second, id={"a": "2"}, auth_connector="crm")
    assert bench.ids() == ["3"]


@pytest.mark.parametrize(
    "lists",
    [
        {"id": [0]},
        {"id": [-1]},
        {"id": ["x"]},
        {"id": [""]},
        {"id": "1"},
        {"id": [True]},
        {"message_id": ["short"]},
    ],
)
def test_clear_4_validates(bench, lists):
    process_id, _ = bench.reserve()
    assert bench.refused(CLEAR, process_id=process_id, auth_connector="crm", **lists) == (
        400,
        "ERROR_ARGUMENT",
    )
    assert bench.ids() == ["1", "2", "3"]


@pytest.mark.parametrize("method", [CLEAR, ERROR])
def test_process_id_is_required(bench, method):
    assert bench.refused(method, message_id=[], auth_connector="crm") == (400, "ERROR_ARGUMENT")


# event.offline.error


def test_error_with_no_messages_changes_nothing(bench):
    process_id, _ = bench.reserve()
    before = bench.rows()
    assert bench.ok(ERROR, process_id=process_id, message_id=[], auth_connector="crm") is True
    assert bench.rows() == before


def test_error_1_marks_and_releases(bench):
    process_id, events = bench.reserve()
    bench.ok(ERROR, process_id=process_id, message_id=messages(events)[:1], auth_connector="crm")
    rows = bench.rows()
    assert [(row["PROCESS_ID"], row["ERROR"]) for row in rows] == [
        ("", "1"),
        (process_id, "0"),
        (process_id, "0"),
    ]


def test_error_2_deletes_other_unmarked_records_free_or_reserved(bench):
    old, events = bench.reserve(limit=1)
    bench.touch("1")
    middle, _ = bench.reserve(filter={"=MESSAGE_ID": events[0]["MESSAGE_ID"]})
    bench.touch("1")
    assert bench.ids() == ["1", "2", "3", "4", "5"]
    bench.ok(ERROR, process_id=middle, message_id=messages(events), auth_connector="crm")
    assert bench.ids() == ["2", "3", "4"]
    assert old != middle


@pytest.mark.parametrize("process_id", ["0" * 32, "stale", "undefined"])
def test_error_2_with_a_wrong_process_id_destroys_newer_events(bench, process_id):
    nacked = [row["MESSAGE_ID"] for row in bench.rows()][:2]
    assert bench.ok(ERROR, process_id=process_id, message_id=nacked, auth_connector="crm") is True
    assert [(row["ID"], row["ERROR"]) for row in bench.rows()] == [("3", "0")]


def test_error_2_repeated_destroys_nothing_while_changes_land_on_the_mark(bench):
    process_id, events = bench.reserve(limit=1)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    bench.touch("1")
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    assert bench.ids() == ["1", "2", "3"]


def test_error_2_repeated_after_redrive_destroys_the_newer_event(bench):
    process_id, events = bench.reserve(limit=1)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    bench.reserve(error=1)
    bench.touch("1")
    assert bench.ids() == ["1", "2", "3", "4"]
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    assert bench.ids() == ["1", "2", "3"]


def test_error_3_empty_process_id_marks_the_free_and_deletes_the_reserved(bench):
    bench.reserve(limit=1)
    bench.touch("1")
    everything = [row["MESSAGE_ID"] for row in bench.rows()]
    bench.ok(ERROR, process_id="", message_id=everything, auth_connector="crm")
    assert [(row["ID"], row["PROCESS_ID"], row["ERROR"]) for row in bench.rows()] == [
        ("2", "", "1"),
        ("3", "", "1"),
        ("4", "", "1"),
    ]


def test_error_4_repeats_land_on_the_free_nacked_record(bench):
    process_id, events = bench.reserve(limit=1)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    bench.wait(7)
    bench.touch("1")
    row = bench.rows()[0]
    assert (row["ERROR"], row["PROCESS_ID"], parse_moment(row["TIMESTAMP_X"])) == ("1", "", START + 7)
    assert [one["ID"] for one in bench.reserve()[1]] == ["2", "3"]


def test_error_4_repeat_of_a_reserved_nacked_record_adds_a_free_one(bench):
    process_id, events = bench.reserve(limit=1)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    held, _ = bench.reserve(error=1)
    bench.touch("1")
    rows = [(row["ID"], row["PROCESS_ID"], row["ERROR"]) for row in bench.rows()]
    assert rows[0] == ("1", held, "1")
    assert rows[-1] == ("4", "", "0")


def test_error_4_after_an_overlap_a_message_can_have_two_free_records(bench):
    bench.reserve(limit=1)
    bench.touch("1")
    bench.reserve(filter={"=ID": 4})
    process_id, both = bench.portal.queue.reserve(START, "crm", Selection(), nacked=False, overlap_seconds=60)
    bench.ok(ERROR, process_id=process_id, message_id=[both[-1].message_id], auth_connector="crm")
    bench.touch("1")
    assert [row["ID"] for row in bench.rows(**{"=ERROR": 1, "=PROCESS_ID": ""})] == ["1", "4"]
    assert len(bench.rows()) == 4


def test_error_5_nacked_records_stay_reserved_the_newer_event_is_deleted(bench):
    process_id, events = bench.reserve(limit=1)
    bench.ok(ERROR, process_id=process_id, message_id=messages(events), auth_connector="crm")
    held, _ = bench.reserve(error=1)
    bench.touch("1")
    bench.ok(ERROR, process_id=held, message_id=messages(events), auth_connector="crm")
    assert [(row["ID"], row["PROCESS_ID"], row["ERROR"]) for row in bench.rows()] == [
        ("1", held, "1"),
        ("2", "", "0"),
        ("3", "", "0"),
    ]
