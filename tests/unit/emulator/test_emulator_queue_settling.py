"""One example for every sentence about `clear` and `error`."""

from __future__ import annotations

import pytest

from b24offline.emulator.state.selection import Selection
from tests.unit.emulator.emulator_bench import CLEAR, ERROR, START, PortalBench

# event.offline.clear


@pytest.mark.parametrize("lists", [{}, {"id": []}, {"message_id": []}, {"id": None}, {"id": ["1"], "message_id": []}])
def test_clear_1_without_ids_is_the_whole_batch(bench, lists):
    process_id, _ = bench.reserve(limit=2)
    assert bench.ok(CLEAR, process_id=process_id, auth_connector="crm", **lists) is True
    assert bench.ids() == ["3"]


def test_clear_2_may_stay_within_the_connector():
    bench = PortalBench.new("ONCRMDEALUPDATE", connectors=("crm", "erp"))
    bench.touch(*bench.deals(1))
    bench.portal.quirks = bench.portal.quirks.changed({"clear_free_in_all_connectors": False})
    bench.ok(CLEAR, process_id="", auth_connector="crm")
    assert (bench.ids("crm"), bench.ids("erp")) == ([], ["2"])


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


@pytest.mark.parametrize("process_id", ["0" * 32, "stale", "undefined"])
def test_error_2_with_a_wrong_process_id_destroys_newer_events(bench, process_id):
    nacked = [row["MESSAGE_ID"] for row in bench.rows()][:2]
    assert bench.ok(ERROR, process_id=process_id, message_id=nacked, auth_connector="crm") is True
    assert [(row["ID"], row["ERROR"]) for row in bench.rows()] == [("3", "0")]


def test_error_4_after_an_overlap_a_message_can_have_two_free_records(bench):
    bench.reserve(limit=1)
    bench.touch("1")
    bench.reserve(filter={"=ID": 4})
    process_id, both = bench.portal.queue.reserve(START, "crm", Selection(), nacked=False, overlap_seconds=60)
    bench.ok(ERROR, process_id=process_id, message_id=[both[-1].message_id], auth_connector="crm")
    bench.touch("1")
    assert [row["ID"] for row in bench.rows(**{"=ERROR": 1, "=PROCESS_ID": ""})] == ["1", "4"]
    assert len(bench.rows()) == 4
