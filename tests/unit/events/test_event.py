"""Records and events: what is accepted, what is malformed, and what stays the same for ever."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.events import (
    JSON,
    Event,
    MalformedRecord,
    ObjectKey,
    batch_from_rows,
    event_from_record,
    parse_record,
    shipped_catalogue,
)
from b24offline.events.event import ACTIONS

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


def event_of(**changes: object) -> Event:
    return event_from_record("acme", parse_record(row(**changes)), shipped_catalogue())


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


def test_heavy_and_odd_payloads_pass() -> None:
    data = {
        "FIELDS": {
            "ID": "7",
            "TITLE": "\U0001f600\x00\ud83d",
            "TEXT": "x" * 1_000_000,
            **dict.fromkeys(map(str, range(10_000))),
        }
    }
    record = parse_record(row(EVENT_DATA=data))
    event = event_from_record("acme", record, shipped_catalogue())
    assert Event.from_json(event.to_json()) == event
    assert "\U0001f600" not in repr(record) + repr(event)


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


def test_an_event_of_a_deal() -> None:
    event = event_of()
    assert event.object == ObjectKey("acme", "crm_deal", "123")
    assert str(event.object) == "crm_deal 123"
    assert (event.action, event.user_id, event.nacked) == ("update", 1, False)
    assert event.delivery == "871@1775198650"
    assert event.idempotency_key("crm.deal_changed") == "acme:871@1775198650:crm.deal_changed"


@pytest.mark.parametrize(
    ("name", "data", "key"),
    [
        ("ONCRMDYNAMICITEMADD_1046", {"FIELDS": {"ID": "7", "ENTITY_TYPE_ID": "1046"}}, "1046:7"),
        ("ONCRMDYNAMICITEMADD_1046", {"FIELDS": {"ID": 7}}, "1046:7"),
        ("ONCRMDYNAMICITEMDELETE", {"FIELDS": {"ID": "7", "ENTITY_TYPE_ID": 1046}}, "1046:7"),
        ("ONCRMDYNAMICITEMDELETE", {"FIELDS": {"ID": "7"}}, None),
        ("ONTASKDELETE", {"FIELDS_BEFORE": {"ID": 3307}, "FIELDS_AFTER": "undefined"}, "3307"),
        ("ONTASKADD", {"FIELDS_BEFORE": "undefined", "FIELDS_AFTER": {"ID": 3307}}, "3307"),
        ("ONTASKADD", {"FIELDS_AFTER": "undefined"}, None),
        ("ONCRMDEALADD", {"FIELDS": {"ID": "0"}}, None),
        ("ONCRMDEALADD", {"FIELDS": {"ID": "-1"}}, None),
        ("ONCRMDEALADD", {"FIELDS": {"ID": True}}, None),
        ("ONCRMDEALADD", {"FIELDS": {"ID": "a\x00b"}}, None),
        ("ONCRMDEALADD", {"FIELDS": []}, None),
        ("ONCRMDEALADD", None, None),
        ("ONNOBODYKNOWS", {"FIELDS": {"ID": "1"}}, None),
    ],
)
def test_the_object_of_an_event(name: str, data: JSON, key: str | None) -> None:
    event = event_of(EVENT_NAME=name, EVENT_DATA=data)
    assert (None if event.object is None else event.object.object_id) == key


@pytest.mark.parametrize("additional", [False, {}, {"user_id": "0"}, {"user_id": 0}, {"user_id": None}, "x"])
def test_no_user_acted(additional: JSON) -> None:
    assert event_of(EVENT_ADDITIONAL=additional).user_id is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)
events = st.builds(
    Event,
    portal=st.just("acme"),
    record_id=st.integers(1, 2**62),
    stamp=st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0).isoformat()),
    message_id=st.text(alphabet="0123456789abcdef", min_size=32, max_size=32),
    name=st.sampled_from(["ONCRMDEALADD", "ONTASKUPDATE"]),
    action=st.sampled_from(ACTIONS),
    object=st.none() | st.builds(ObjectKey, st.just("acme"), st.sampled_from(["crm_deal", "task"]), st.text()),
    data=json_values,
    user_id=st.none() | st.integers(1),
    nacked=st.booleans(),
)


@given(events)
def test_json_gives_the_event_back(event: Event) -> None:
    text = event.to_json()
    assert text.isascii()
    assert Event.from_json(text) == event
    assert Event.from_json(text).idempotency_key("p") == event.idempotency_key("p")


@given(events, events)
def test_idempotency_keys_differ_between_deliveries(one: Event, other: Event) -> None:
    same = (one.record_id, one.delivery) == (other.record_id, other.delivery)
    assert (one.idempotency_key("p") == other.idempotency_key("p")) == same
    assert one.idempotency_key("p") != one.idempotency_key("q")


def test_a_repeat_has_another_key_and_another_spelling_of_the_same_moment_has_not() -> None:
    assert event_of().delivery != event_of(TIMESTAMP_X="2026-04-03T08:44:11+02:00").delivery
    assert event_of().delivery == event_of(TIMESTAMP_X="2026-04-03T06:44:10Z").delivery


def test_other_json_is_refused() -> None:
    good = json.loads(event_of().to_json())
    for broken in (
        [],
        {},
        {**good, "action": "x"},
        {**good, "stamp": "x"},
        {**good, "object": 7},
        {**good, "more": 1},
    ):
        with pytest.raises(ValueError, match=r"not an event|isoformat"):
            Event.from_json(json.dumps(broken))
