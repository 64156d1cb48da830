"""Which messages of the broker are taken, and what of them is sent on."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b24offline.contract import EXCHANGE, HEADER_WORK, QUEUE_EVENTS, QUEUE_SETTLE, QUEUES, TASK_FAILED
from b24offline.tasks.messages import Refused, check_headers, checked_body
from b24offline.tasks.redis_transport import is_message

TASKS = {"b24offline.tick"}
KNOWN = {*QUEUES, "shop"}
WORK = {"portal": "acme", "run": "1@2/deals", "attempt": 1, "step": 0}
STEP = {HEADER_WORK: WORK}
NAMES = st.sampled_from(["task", "id", "options", "headers", "link", "queue", HEADER_WORK, "portal", "run"])
JSON = st.recursive(
    st.sampled_from([None, True, 7, 0.5, "", "shop", "b24offline.tick"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def signature(task: str = "shop.pay", **options: Any) -> dict[str, Any]:
    return {"task": task, "args": [], "kwargs": {}, "options": options, "subtask_type": None}


NEXT = signature(queue=QUEUE_EVENTS, headers=STEP, link_error=[signature(TASK_FAILED, queue=QUEUE_SETTLE)])
OUTSIDE = signature(TASK_FAILED, exchange=EXCHANGE, routing_key=QUEUE_SETTLE)


@pytest.mark.parametrize(
    "change",
    [
        {"task": None},
        {"task": ["b24offline.tick"]},
        {"task": "os.system"},
        {"id": None},
        {"id": {}},
        {"retries": "many"},
        {"timelimit": "soon"},
        {"timelimit": [None, "soon"]},
        {"eta": 7},
        {"parent_id": ["x"]},
        {"argsrepr": {"a": 1}},
    ],
)
def test_headers_of_another_shape_are_refused(change: dict[str, Any]) -> None:
    headers = {"task": "b24offline.tick", "id": "1", "retries": 0, "timelimit": [None, 360], "eta": None}
    check_headers(headers, TASKS)
    with pytest.raises(Refused):
        check_headers({**headers, **change}, TASKS)


@pytest.mark.parametrize("body", [None, {}, [], [[], {}], [{}, [], {}], [[], {}, []], "text", [[], {}, {}, {}]])
def test_a_body_of_another_shape_is_refused(body: object) -> None:
    with pytest.raises(Refused):
        checked_body({}, body, KNOWN)


def test_what_runs_send_is_taken_as_it_is() -> None:
    embed = {"callbacks": None, "errbacks": [OUTSIDE], "chain": [NEXT, signature(queue="shop", headers=STEP)]}
    assert checked_body(STEP, [[], {}, embed], KNOWN) is None
    assert checked_body({}, [[], {}, {"callbacks": None, "errbacks": [], "chain": None, "chord": None}], KNOWN) is None
    assert checked_body(STEP, [[], {}, {"callbacks": [signature(queue="shop")]}], KNOWN) is None


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_a_message_without_a_run_sends_nothing_on(name: str) -> None:
    for headers in ({}, {HEADER_WORK: "acme"}, {HEADER_WORK: {"portal": "acme"}}):
        assert checked_body(headers, [[1], {"a": 2}, {name: [signature(queue="shop")]}], KNOWN) == ([1], {"a": 2}, {})


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("callbacks", signature(queue="payroll")),
        ("callbacks", signature(exchange="payroll", routing_key="payroll")),
        ("callbacks", signature(exchange=EXCHANGE, routing_key="payroll")),
        ("callbacks", signature(exchange="", routing_key="payroll")),
        ("callbacks", signature(queue=["shop"])),
        ("callbacks", signature(queue="shop", connection="amqp://elsewhere")),
        ("callbacks", signature(queue="shop", link=[signature(queue="payroll")])),
        ("callbacks", {**signature(queue="shop"), "subtask_type": "group"}),
        ("callbacks", "shop.pay"),
        ("errbacks", signature(queue="shop")),
        ("chain", signature(queue="shop")),
        ("chain", signature(queue="shop", headers={HEADER_WORK: {**WORK, "run": "2@2/deals"}})),
        ("chain", {**NEXT, "options": {**NEXT["options"], "link_error": [signature(queue="payroll")]}}),
        ("chord", signature(queue="shop")),
    ],
)
def test_a_step_sends_its_own_run_on_and_nothing_else(name: str, row: object) -> None:
    with pytest.raises(Refused, match=name):
        checked_body(STEP, [[], {}, {name: [row]}], KNOWN)


@given(headers=JSON, body=JSON, embed=st.dictionaries(st.sampled_from(["callbacks", "errbacks", "chain"]), JSON))
@settings(max_examples=60)
def test_nothing_but_a_refusal_comes_of_any_message(headers: Any, body: Any, embed: dict[str, Any]) -> None:
    for own, wrong in ((headers, body), (STEP, body), (STEP, [[], {}, embed])):
        with suppress(Refused):
            checked_body(own, wrong, KNOWN)
    with suppress(Refused):
        check_headers(headers, TASKS)
    assert not is_message(headers)
