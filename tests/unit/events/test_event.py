"""Events: their object, their keys, and their JSON."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.events import (
    JSON,
    Event,
    ObjectKey,
    event_from_record,
    parse_record,
    shipped_catalogue,
)
from b24offline.events.event import ACTIONS
from tests.unit.events.test_record import row


def event_of(**changes: object) -> Event:
    return event_from_record("acme", parse_record(row(**changes)), shipped_catalogue())


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


def test_an_event_of_a_deal() -> None:
    event = event_of()
    assert event.object == ObjectKey("acme", "crm_deal", "123")
    assert str(event.object) == "crm_deal 123"
    assert (event.action, event.user_id, event.nacked) == ("update", 1, False)
    assert event.delivery == "871@1775198650"
    assert event.idempotency_key("crm.deal_changed") == "acme:871@1775198650:crm.deal_changed"
    nacked = dataclasses.replace(event, nacked=True)
    assert nacked.idempotency_key("crm.deal_changed") == "acme:871@1775198650:nacked:crm.deal_changed"


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
def test_json_round_trip(event: Event) -> None:
    text = event.to_json()
    assert text.isascii()
    assert Event.from_json(text) == event
    assert Event.from_json(text).idempotency_key("p") == event.idempotency_key("p")


@given(events, events)
def test_idempotency_keys_differ_between_deliveries(one: Event, other: Event) -> None:
    same = (one.record_id, one.delivery, one.nacked) == (other.record_id, other.delivery, other.nacked)
    assert (one.idempotency_key("p") == other.idempotency_key("p")) == same
    assert one.idempotency_key("p") != one.idempotency_key("q")


def test_the_delivery_depends_on_the_moment_of_the_stamp_not_its_spelling() -> None:
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
