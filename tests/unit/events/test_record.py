"""Records: which rows are accepted, and which are malformed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.events import JSON, MalformedRecord, batch_from_rows, parse_record

STAMP = "2026-04-03T08:44:10+02:00"


def row(**changes: object) -> dict[str, object]:
    return {
        "ID": "871",
        "TIMESTAMP_X": STAMP,
        "EVENT_NAME": "ONCRMDEALUPDATE",
        "EVENT_DATA": {"FIELDS": {"ID": "123"}},
        "EVENT_ADDITIONAL": {"user_id": "1"},
        "MESSAGE_ID": "0123456789abcdef0123456789abcdef",
        **changes,
    }


def test_a_record_of_a_reservation() -> None:
    record = parse_record(row(), process_id="p1")
    assert (record.record_id, record.name, record.stamp) == (871, "ONCRMDEALUPDATE", STAMP)
    assert record.timestamp == datetime(2026, 4, 3, 6, 44, 10, tzinfo=UTC)
    assert (record.process_id, record.nacked) == ("p1", False)


def test_what_a_row_says_itself_goes_before_what_the_caller_knows() -> None:
    listed = parse_record(row(PROCESS_ID="p2", ERROR="1"), process_id="p1")
    assert (listed.process_id, listed.nacked) == ("p2", True)
    free = parse_record(row(PROCESS_ID="", ERROR="0"), process_id="p1", nacked=True)
    assert (free.process_id, free.nacked) == ("", False)
    assert parse_record(row(PROCESS_ID=None, ERROR=1)).nacked
    assert parse_record(row(), nacked=True).nacked


@pytest.mark.parametrize("nothing", [False, None, []])
def test_every_spelling_of_no_payload(nothing: JSON) -> None:
    record = parse_record(row(EVENT_DATA=nothing, EVENT_ADDITIONAL=nothing))
    assert (record.data, record.additional) == (None, None)
    bare = row()
    del bare["EVENT_DATA"], bare["EVENT_ADDITIONAL"]
    assert parse_record(bare) == record


def test_ids_may_be_numbers_and_names_any_case() -> None:
    assert parse_record(row(ID=871, EVENT_NAME=" onCrmDealUpdate ")) == parse_record(row())


@pytest.mark.parametrize(
    ("raw", "record_id", "reason"),
    [
        ("text", None, "not an object"),
        (None, None, "not an object"),
        ({}, None, "ID is not a number"),
        (row(ID="0"), None, "ID is not a number"),
        (row(ID="-5"), None, "ID is not a number"),
        (row(ID=True), None, "ID is not a number"),
        (row(ID="٣"), None, "ID is not a number"),
        (row(ID="9" * 5000), None, "ID is not a number"),
        (row(MESSAGE_ID="abc"), 871, "MESSAGE_ID"),
        (row(MESSAGE_ID=7), 871, "MESSAGE_ID"),
        (row(EVENT_NAME=""), 871, "EVENT_NAME"),
        (row(EVENT_NAME=None), 871, "EVENT_NAME"),
        (row(TIMESTAMP_X=None), 871, "TIMESTAMP_X is missing"),
        (row(TIMESTAMP_X="yesterday"), 871, "TIMESTAMP_X is not a time"),
        (row(TIMESTAMP_X="2026-04-03T08:44:10"), 871, "with an offset"),
        (row(TIMESTAMP_X="0001-01-01T00:00:00+14:00"), 871, "TIMESTAMP_X is not a time"),
        (row(PROCESS_ID=["p"]), 871, "PROCESS_ID"),
    ],
)
def test_malformed_rows_say_which_and_why(raw: object, record_id: int | None, reason: str) -> None:
    with pytest.raises(MalformedRecord) as caught:
        parse_record(raw)
    assert caught.value.record_id == record_id
    assert reason in caught.value.reason
    assert "yesterday" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.sampled_from([*row(), "x"]), c),
    )
)
def test_anything_is_a_record_or_malformed(raw: object) -> None:
    batch = batch_from_rows("acme", "p1", [row(), raw, row(ID="872")])
    assert batch.records[0].record_id == 871
    assert len(batch.records) + len(batch.malformed) == 3


def test_malformed_rows_keep_the_message_id_when_it_is_well_formed() -> None:
    (bad,) = batch_from_rows("acme", "p1", [row(EVENT_NAME="")]).malformed
    assert bad.message_id == "0123456789abcdef0123456789abcdef"
