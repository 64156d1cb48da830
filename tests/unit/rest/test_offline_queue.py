"""The guarded client of the queue: what it sends, and what it never sends."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.errors import PortalError, UnknownAnswer
from b24offline.events import Batch
from b24offline.rest import ClearOrder, NackOrder, NackRules, OfflineQueue, ReserveOrder, UnsafeCall
from tests.support.core_events import PID, Recorder, json_values, message_of, record_of, reserve, reserve_nacked, row_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

RULES = NackRules(minimum_age_ms=75_000, look_valid_ms=30_000)
MESSAGE_ID_LENGTH = 32


GOOD: dict[str, Any] = {
    "process_id": PID,
    "records": (record_of(1, PROCESS_ID=PID), record_of(2, PROCESS_ID=PID)),
    "newer": {1: False, 2: False},
    "first_seen_ms": 1_000,
    "looked_ms": 80_000,
    "now_ms": 81_000,
    "lease_until_ms": 90_000,
    "rules": RULES,
}


def good_order(**changes: Any) -> NackOrder:
    return NackOrder(**(GOOD | changes))


def harmless(method: str, sent: dict[str, Any]) -> None:
    """What must be true of every call, whoever asked for it."""
    assert isinstance(sent["auth_connector"], str)
    assert sent["auth_connector"].strip()
    if method == "event.offline.get":
        assert type(sent["clear"]) is int
        assert sent["clear"] == 0
        assert sent["error"] in (0, 1)
        assert type(sent["limit"]) is int
        assert sent["limit"] > 0
        assert "process_id" not in sent
        for key in sent.get("filter", {}):
            assert key.lstrip("<>=") in {"ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID"}
        if sent["error"] == 1:
            assert sent["filter"].keys() == {"=ID"}
            assert sent["limit"] == 1
    elif method == "event.offline.clear":
        assert set(sent) == {"process_id", "id", "auth_connector"}
        assert_whole(sent["process_id"])
        assert isinstance(sent["id"], list)
        assert sent["id"]
        assert all(type(record_id) is int and record_id > 0 for record_id in sent["id"])
    elif method == "event.offline.error":
        assert set(sent) == {"process_id", "message_id", "auth_connector"}
        assert_whole(sent["process_id"])
        assert isinstance(sent["message_id"], list)
        assert sent["message_id"]
        assert all(isinstance(message, str) and len(message) == MESSAGE_ID_LENGTH for message in sent["message_id"])
    else:
        assert method == "event.offline.list"


def assert_whole(process_id: object) -> None:
    assert isinstance(process_id, str)
    assert process_id
    assert process_id.isascii()
    assert not any(character.isspace() or ord(character) < 0x20 for character in process_id)


ids = st.integers(-2, 5) | st.booleans() | st.none() | st.sampled_from(["1", "", 0.0, 1.0, math.nan])
process_ids = st.sampled_from(["", None, " ", "\n", PID, PID + "\n", "a b", "a'b", 0, 7, True, [], "é"]) | st.text(
    max_size=4
)
filters = st.dictionaries(
    st.sampled_from(["ID", "=ID", ">ID", "!ID", "=PROCESS_ID", "PROCESS_ID", "=ERROR", "@ID", "", "=ID\n", "id"])
    | st.text(max_size=5),
    json_values,
    max_size=2,
)
orders = st.dictionaries(
    st.sampled_from(["ID", "TIMESTAMP_X", "PROCESS_ID", ""]), st.sampled_from(["ASC", "DESC", "asc", ""])
)
records = st.builds(
    lambda number, nacked, pid, message: record_of(number, PROCESS_ID=pid, ERROR=nacked, MESSAGE_ID=message),
    st.integers(1, 5),
    st.sampled_from(["0", "1"]),
    st.sampled_from([PID, "", "other"]),
    st.sampled_from([message_of(1), message_of(2)]),
)
moments = st.integers(0, 200_000) | st.sampled_from([math.nan, math.inf, -1, None, True, "5"])
newer = (
    st.dictionaries(st.integers(1, 5), st.sampled_from([False, True, None, 0])) | st.none() | st.lists(st.integers())
)
rules = st.builds(
    NackRules, st.sampled_from([75_000, 0, -1, math.nan, None]), st.sampled_from([30_000, math.nan, None])
)

REFUSALS = (UnsafeCall, TypeError, AttributeError, ValueError)
"""Wrong types may end in any of these, as long as nothing was sent."""


def attempted(act: Callable[[OfflineQueue], object], result: Any = True, connector: Any = "b24") -> Recorder:
    recorder = Recorder(result)
    try:
        act(OfflineQueue(recorder, "acme", connector))
    except REFUSALS:
        assert recorder.calls == []
    except PortalError:
        assert recorder.calls
    for method, sent in recorder.calls:
        harmless(method, sent)
    return recorder


def in_turn(turn: AbstractContextManager[Callable[[Any], Any]], order: Callable[[], object]) -> Any:
    """Build an order in its turn and send it."""
    with turn as send:
        return send(order())


def shown(recorder: Recorder) -> list[str]:
    return [method for method, _ in recorder.calls]


@given(
    limit=ids | st.integers() | st.just(50),
    order=st.just({"ID": "ASC"}) | orders | json_values,
    rule=st.none() | filters | json_values,
    connector=st.just("b24") | process_ids,
)
def test_no_reserving_call_deletes(limit: Any, order: Any, rule: Any, connector: Any) -> None:
    attempted(
        lambda queue: in_turn(queue.reserving(), lambda: ReserveOrder(limit, order, {} if rule is None else rule)),
        {"events": []},
        connector,
    )


@pytest.mark.parametrize("limit", [0, -1, True, False, None, "5", 5.0, math.nan])
def test_a_reserving_call_needs_a_positive_integer_limit(limit: Any) -> None:
    with pytest.raises(UnsafeCall, match="limit"):
        ReserveOrder(limit, {})


@pytest.mark.parametrize(
    "process_id", ["", None, " ", PID + "\n", "\n" + PID, "a b", "a'b", "é", 0, 7, True, "a" * 129]
)
def test_a_call_needs_a_complete_process_id(process_id: Any) -> None:
    queue = OfflineQueue(Recorder([]), "acme", "b24")
    for act in (lambda: ClearOrder(process_id, (1,)), lambda: queue.reread(process_id)):
        with pytest.raises(UnsafeCall, match="process id"):
            act()


@given(ids)
def test_no_reserving_call_for_a_nacked_record_deletes(record_id: Any) -> None:
    recorder = attempted(lambda queue: reserve_nacked(queue, record_id), {"events": []})
    assert bool(recorder.calls) == (type(record_id) is int and record_id > 0)


@given(
    process_id=st.just(PID) | process_ids,
    numbers=st.lists(st.integers(1, 5), min_size=1, max_size=3) | st.lists(ids, max_size=4) | ids,
    shape=st.sampled_from([tuple, tuple, list, set]),
)
def test_no_acknowledgement_clears_more_than_it_names(process_id: Any, numbers: Any, shape: type) -> None:
    given_ids = shape(numbers) if isinstance(numbers, list) else numbers
    recorder = attempted(lambda queue: in_turn(queue.clearing(), lambda: ClearOrder(process_id, given_ids)))
    for _, sent in recorder.calls:
        assert (sent["process_id"], tuple(sent["id"])) == (process_id, given_ids)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "process_id": process_ids,
            "records": st.lists(records, max_size=3).map(tuple) | st.just([]) | st.just((row_of(1),)),
            "newer": newer,
            "first_seen_ms": moments,
            "looked_ms": moments,
            "now_ms": moments,
            "lease_until_ms": moments,
            "rules": rules,
        },
    )
)
def test_no_nack_without_its_complete_proof(changes: dict[str, Any]) -> None:
    recorder = attempted(lambda queue: in_turn(queue.nacking(), lambda: good_order(**changes)))
    for _, sent in recorder.calls:
        order = SimpleNamespace(**(GOOD | changes))
        assert sent["process_id"] == order.process_id
        assert sent["message_id"] == [record.message_id for record in order.records]
        assert len(set(sent["message_id"])) == len(order.records)
        for record in order.records:
            assert record.process_id == order.process_id
            assert not record.nacked
            assert order.newer[record.record_id] is False
        assert order.now_ms - order.first_seen_ms >= order.rules.minimum_age_ms > 0
        assert 0 <= order.now_ms - order.looked_ms <= order.rules.look_valid_ms
        assert order.lease_until_ms > order.now_ms


@pytest.mark.parametrize("connector", ["", " ", "\t"])
def test_no_queue_without_connector(connector: str) -> None:
    with pytest.raises(UnsafeCall, match="connector is empty"):
        OfflineQueue(Recorder(), "acme", connector)


def test_only_an_order_of_the_right_type_is_sent() -> None:
    fake: Any = SimpleNamespace(process_id="", record_ids=(), message_ids=())
    assert shown(attempted(lambda queue: in_turn(queue.clearing(), lambda: fake))) == []
    assert shown(attempted(lambda queue: in_turn(queue.nacking(), lambda: fake))) == []
    other: Any = good_order()
    assert shown(attempted(lambda queue: in_turn(queue.clearing(), lambda: other))) == []
    assert shown(attempted(lambda queue: in_turn(queue.reserving(), lambda: other))) == []
    assert shown(attempted(lambda queue: in_turn(queue.reserving(), lambda: fake))) == []


def test_a_nack_with_its_proof_is_sent() -> None:
    recorder = attempted(lambda queue: in_turn(queue.nacking(), good_order))
    assert recorder.calls == [
        (
            "event.offline.error",
            {"process_id": PID, "message_id": [message_of(1), message_of(2)], "auth_connector": "b24"},
        )
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"process_id": ""}, "process id"),
        ({"process_id": "b" * 32}, "not of this batch"),
        ({"records": ()}, "no records"),
        ({"records": (record_of(1, PROCESS_ID=PID, ERROR="1"),)}, "nacked"),
        ({"records": (record_of(1, PROCESS_ID=""),)}, "not of this batch"),
        ({"records": (record_of(1, "7", PROCESS_ID=PID), record_of(2, "7", PROCESS_ID=PID))}, "two records"),
        ({"newer": {1: False, 2: True}}, "newer"),
        ({"newer": {1: False}}, "not known"),
        ({"first_seen_ms": 6_001}, "too young"),
        ({"first_seen_ms": 90_000}, "too young"),
        ({"looked_ms": 50_999}, "not fresh"),
        ({"looked_ms": 81_001}, "not fresh"),
        ({"lease_until_ms": 81_000}, "lease"),
        ({"now_ms": 81_000.0}, "whole milliseconds"),
        ({"first_seen_ms": math.nan}, "whole milliseconds"),
        ({"rules": NackRules(0, 30_000)}, "must be set"),
    ],
)
def test_a_nack_that_lacks_one_part_of_its_proof_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsafeCall, match=why):
        good_order(**changes)


@pytest.mark.parametrize("ids_", [(), [1], (0,), (-1,), (True,), ("1",), (1, None), None])
def test_a_clear_needs_positive_integer_ids(ids_: Any) -> None:
    with pytest.raises(UnsafeCall, match="record id"):
        ClearOrder(PID, ids_)


def test_a_reservation_is_asked_for_without_deleting() -> None:
    recorder = Recorder({"process_id": PID, "events": [row_of(1, PROCESS_ID=PID), {"ID": "x"}]})
    queue = OfflineQueue(recorder, "acme", "b24")
    batch = in_turn(queue.reserving(), lambda: ReserveOrder(50, {"ID": "ASC"}, {">ID": 3}))
    assert recorder.calls[0][1] == {
        "clear": 0,
        "error": 0,
        "limit": 50,
        "order": {"ID": "ASC"},
        "filter": {">ID": 3},
        "auth_connector": "b24",
    }
    assert isinstance(batch, Batch)
    assert (batch.process_id, [record.record_id for record in batch.records], len(batch.malformed)) == (PID, [1], 1)


@pytest.mark.parametrize("result", [False, None, 1, "true", [], {"result": True}])
def test_any_reply_but_true_is_an_unknown_answer(result: Any) -> None:
    queue = OfflineQueue(Recorder(result), "acme", "b24")
    for act in (
        lambda: in_turn(queue.clearing(), lambda: ClearOrder(PID, (1,))),
        lambda: in_turn(queue.nacking(), good_order),
    ):
        with pytest.raises(UnknownAnswer) as caught:
            act()
        assert caught.value.executed == "unknown"


@pytest.mark.parametrize(
    "result",
    [
        None,
        [],
        "x",
        {"events": [row_of(1)]},
        {"events": [row_of(1)], "process_id": ""},
        {"events": [row_of(1)], "process_id": None},
        {"events": [row_of(1)], "process_id": 7},
        {"events": {"0": row_of(1)}, "process_id": PID},
        {"events": "x", "process_id": PID},
    ],
)
def test_a_malformed_reservation_is_an_unknown_answer(result: Any) -> None:
    with pytest.raises(UnknownAnswer):
        reserve(OfflineQueue(Recorder(result), "acme", "b24"), 1)
