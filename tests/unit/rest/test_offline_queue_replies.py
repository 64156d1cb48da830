"""Replies to the guarded client: pages, rows of others, malformed rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.errors import PortalError, UnknownAnswer
from b24offline.events import Batch, MalformedRecord, Record
from b24offline.rest import QUEUE_PAGE, OfflineQueue, UnsafeCall, offline_queue
from tests.support.core_events import (
    PID,
    FakeClient,
    Recorder,
    json_values,
    message_of,
    record_of,
    reserve,
    reserve_nacked,
    row_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

process_ids = st.sampled_from(["", None, PID, PID + "\n", "a b", 0, 7, True, []])
rows = st.lists(
    json_values
    | st.fixed_dictionaries(
        {},
        optional={
            "ID": st.sampled_from(["1", "2", 3, 0, "x", None]) | json_values,
            "MESSAGE_ID": st.sampled_from([message_of(1), "short", None]),
            "EVENT_NAME": st.sampled_from(["ONCRMDEALADD", "", 7]) | json_values,
            "TIMESTAMP_X": st.sampled_from(["2026-04-03T08:44:10+02:00", "x", "0001-01-01T00:00:00+14:00"])
            | json_values,
            "EVENT_DATA": json_values,
            "EVENT_ADDITIONAL": json_values,
            "PROCESS_ID": st.sampled_from([PID, "", None, "a,b"]) | json_values,
            "ERROR": json_values,
        },
    ),
    max_size=4,
)
results = json_values | rows | st.fixed_dictionaries({"events": rows | json_values, "process_id": process_ids})


@given(results)
def test_any_answer_is_a_typed_result_or_a_portal_error(result: Any) -> None:
    queue = OfflineQueue(Recorder(result), "acme", "b24")

    failures: list[PortalError] = []

    def reply(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except PortalError as error:
            failures.append(error)
            return None

    for batch in (
        reply(lambda: reserve(queue, 1)),
        reply(lambda: reserve_nacked(queue, 1)),
    ):
        assert batch is None or (isinstance(batch, Batch) and batch.process_id)
    again = reply(lambda: queue.reread(PID))
    assert again is None or all(record.process_id == PID for record in again.records)
    newer = reply(lambda: queue.newer([record_of(1)])) or {}
    assert newer.keys() <= {1}
    assert all(type(value) is bool for value in newer.values())
    reserved = reply(lambda: list(queue.reserved())) or []
    assert all(isinstance(row, MalformedRecord) or row.process_id not in ("", "a,b") for row in reserved)
    nacked = reply(lambda: list(queue.nacked())) or []
    assert all(isinstance(row, Record) and row.nacked and not row.process_id for row in nacked)
    assert all(error.executed == "unknown" for error in failures)


@dataclass
class Pages(FakeClient):
    """A list of rows, served fifty at a time by `>ID`; filters other than that one are ignored on purpose."""

    rows: list[dict[str, Any]]
    calls: list[dict[str, Any]] = field(default_factory=list)

    def send(self, method: str, sent: dict[str, Any]) -> Any:
        assert method == "event.offline.list"
        self.calls.append(sent)
        assert sent["order"] == {"ID": "ASC"}
        assert "start" not in sent
        after = sent["filter"][">ID"]
        return [row for row in self.rows if int(str(row["ID"])) > after][:QUEUE_PAGE]


@pytest.mark.parametrize("number", [0, 1, 49, 50, 51, 100, 130])
def test_all_pages_are_read_by_id(number: int) -> None:
    pages = Pages([row_of(i * 7, PROCESS_ID=PID) for i in range(1, number + 1)])
    batch = OfflineQueue(pages, "acme", "b24").reread(PID)
    assert [row.record_id for row in batch.records] == [i * 7 for i in range(1, number + 1)]
    assert len(pages.calls) == number // QUEUE_PAGE + 1
    assert all(call["filter"]["=PROCESS_ID"] == PID for call in pages.calls)
    assert all(call["auth_connector"] == "b24" for call in pages.calls)


def test_rows_outside_the_filter_are_left_out() -> None:
    pages = Pages(
        [
            row_of(1, PROCESS_ID=PID),
            row_of(2, PROCESS_ID="other"),
            row_of(3),
            row_of(4, ERROR="1"),
            row_of(5, PROCESS_ID="other", ERROR="1"),
            row_of(6, PROCESS_ID="a,b"),
        ]
    )
    queue = OfflineQueue(pages, "acme", "b24")
    assert [row.record_id for row in queue.reread(PID).records] == [1]
    assert [row.record_id for row in queue.reserved() if isinstance(row, Record)] == [1, 2, 5]
    assert [row.record_id for row in queue.reserved() if isinstance(row, MalformedRecord)] == [6]
    assert [row.record_id for row in queue.nacked()] == [4]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (row_of(5, "7"), True),
        (row_of(5, "7", PROCESS_ID="other"), True),
        (row_of(5, "7", ERROR="1"), False),
        (row_of(5, "8"), False),
        (row_of(4, "7"), False),
        (row_of(3, "7"), False),
    ],
)
def test_a_newer_record_has_the_same_message_and_a_greater_id(row: dict[str, Any], found: bool) -> None:
    recorder = Recorder([row_of(4, "7", PROCESS_ID=PID), row])
    assert OfflineQueue(recorder, "acme", "b24").newer([record_of(4, "7")]) == {4: found}
    assert recorder.calls[0][1]["filter"] == {"@MESSAGE_ID": [message_of("7")], "=ERROR": 0, ">ID": 3}


def test_newer_covers_many_records_page_by_page() -> None:
    old = [record_of(number, PROCESS_ID=PID) for number in range(1, QUEUE_PAGE + 1)]
    pages = Pages([row_of(number, PROCESS_ID=PID) for number in range(1, QUEUE_PAGE + 1)] + [row_of(90, "7")])
    newer = OfflineQueue(pages, "acme", "b24").newer(old)
    assert newer == {number: number == 7 for number in range(1, QUEUE_PAGE + 1)}
    assert len(pages.calls) == 2


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row_of(5, "7")],
        [row_of(4, "7", ERROR="1")],
        [row_of(4, "8"), row_of(5, "7")],
        [{"ID": "4"}],
    ],
)
def test_a_list_without_the_record_itself_proves_nothing(rows: list[Any]) -> None:
    assert OfflineQueue(Recorder(rows), "acme", "b24").newer([record_of(4, "7")]) == {}


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record_of(number) for number in range(1, QUEUE_PAGE + 2)],
        [replace(record_of(1), message_id="")],
        [replace(record_of(1), message_id="x")],
        [replace(record_of(1), record_id=0)],
        [replace(record_of(1), record_id=-1)],
        [row_of(1)],
    ],
)
def test_newer_needs_records_with_complete_ids(records: Any) -> None:
    recorder = Recorder([])
    with pytest.raises(UnsafeCall):
        OfflineQueue(recorder, "acme", "b24").newer(records)
    assert recorder.calls == []


class EndlessPages(FakeClient):
    """A portal whose list has always one more page."""

    def send(self, method: str, params: dict[str, Any]) -> Any:
        after = params["filter"][">ID"]
        return [row_of(number, PROCESS_ID=PID) for number in range(after + 1, after + 1 + QUEUE_PAGE)]


def test_pages_without_end_are_an_error_of_their_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_queue, "MOST_PAGES", 20)
    with pytest.raises(UnknownAnswer, match=r"on portal acme .*its pages do not end, 20 were read"):
        OfflineQueue(EndlessPages(), "acme", "b24").reread(PID)


def test_pages_that_do_not_advance_are_an_unknown_answer() -> None:
    stuck = Recorder([row_of(i, PROCESS_ID=PID) for i in range(1, QUEUE_PAGE + 1)])
    with pytest.raises(UnknownAnswer, match="do not advance"):
        OfflineQueue(stuck, "acme", "b24").reread(PID)


def test_a_malformed_row_with_complete_ids_can_be_nacked() -> None:
    broken = row_of(1, PROCESS_ID=PID, EVENT_NAME=None, TIMESTAMP_X="yesterday")
    batch = OfflineQueue(Recorder([broken, row_of(2, PROCESS_ID=PID, MESSAGE_ID="x")]), "acme", "b24").reread(PID)
    (record,) = batch.records
    assert (record.record_id, record.message_id, record.process_id) == (1, message_of(1), PID)
    assert len(batch.malformed) == 1
