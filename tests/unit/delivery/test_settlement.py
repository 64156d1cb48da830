"""The plan of a settle, against the rules stated once more from the side of what must never happen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.delivery import SettlePlan, SettleView
from b24offline.delivery.settlement import needs_look, plan_settlement
from tests.support.core_events import PID, event_of, message_of, record_of

NOW = 1_000_000


@st.composite
def views(draw: st.DrawFn) -> SettleView:
    """Batches of up to six records of three objects, looked up or not, some of it noted as quiet."""
    numbers = draw(st.sets(st.integers(1, 6), max_size=6))
    deals = {number: str(draw(st.integers(1, 3))) for number in numbers}
    live = (
        {
            number: record_of(number, deals[number], PROCESS_ID=PID, ERROR=draw(st.sampled_from("01")))
            for number in draw(st.sets(st.sampled_from(sorted(numbers))))
            if numbers
        }
        if numbers
        else {}
    )
    return SettleView(
        outcomes={
            number: draw(st.sampled_from(["succeeded", "failed", "superseded", "unfinished"])) for number in numbers
        },
        events={number: event_of(number, deals[number]) for number in numbers},
        live=draw(st.sampled_from([live, None])),
        newer={number: draw(st.booleans()) for number in numbers if draw(st.booleans())},
        in_doubt_until_ms={
            message_of(deal): NOW + draw(st.sampled_from([-1, 0, 1, 500])) for deal in "123" if draw(st.booleans())
        },
        now_ms=NOW,
        nackable_at_ms=NOW + draw(st.sampled_from([-1, 0, 1, 900])),
    )


def in_doubt(view: SettleView, record: int) -> bool:
    return view.in_doubt_until_ms.get(view.events[record].message_id, 0) > view.now_ms


def live_unmarked(view: SettleView, record: int) -> bool:
    return view.live is not None and record in view.live and not view.live[record].nacked


@given(views())
def test_every_record_gets_exactly_one_fate(view: SettleView) -> None:
    plan = plan_settlement(view)
    fates = [*plan.clear, *plan.nack, *plan.gone, *plan.keep]
    assert sorted(fates) == sorted(view.outcomes)
    assert set(plan.superseded) <= set(plan.clear)
    assert set(plan.look) <= set(plan.keep)
    for name in ("clear", "superseded", "nack", "gone", "keep", "look"):
        assert list(getattr(plan, name)) == sorted(getattr(plan, name))


@given(views())
def test_nothing_unfinished_or_in_doubt_is_cleared(view: SettleView) -> None:
    plan = plan_settlement(view)
    for record in plan.clear:
        assert view.outcomes[record] != "unfinished"
        assert not in_doubt(view, record)
        if view.outcomes[record] == "failed":
            assert record in plan.superseded
            assert view.newer[record] is True
            assert live_unmarked(view, record)
        else:
            assert record not in plan.superseded


@given(views())
def test_nothing_is_reported_that_a_report_could_destroy(view: SettleView) -> None:
    for record in plan_settlement(view).nack:
        assert view.outcomes[record] == "failed"
        assert live_unmarked(view, record)
        assert view.newer[record] is False
        assert not in_doubt(view, record)
        assert view.now_ms >= view.nackable_at_ms


@given(views())
def test_what_is_kept_has_a_reason_and_comes_again(view: SettleView) -> None:
    plan = plan_settlement(view)
    timed = []
    for record in plan.keep:
        outcome = view.outcomes[record]
        young = view.now_ms < view.nackable_at_ms
        if outcome == "unfinished":
            continue
        if in_doubt(view, record):
            timed.append(view.in_doubt_until_ms[view.events[record].message_id])
            continue
        assert outcome == "failed"
        if not live_unmarked(view, record):
            assert view.live is None or view.live[record].nacked
        elif record not in view.newer:
            assert record in plan.look
        else:
            assert young
            timed.append(view.nackable_at_ms)
    assert plan.again_at_ms == (min(timed) if timed else None)
    assert plan.again_at_ms is None or plan.again_at_ms > view.now_ms


@given(views())
def test_a_batch_needs_no_look_only_when_it_can_be_cleared_at_once(view: SettleView) -> None:
    if not needs_look(view):
        plan = plan_settlement(replace(view, live=None))
        final = {record for record, outcome in view.outcomes.items() if outcome != "unfinished"}
        assert set(plan.clear) == final
    else:
        assert any(
            outcome == "failed" or (outcome != "unfinished" and in_doubt(view, record))
            for record, outcome in view.outcomes.items()
        )


def view_of(**changes: Any) -> SettleView:
    values: dict[str, Any] = {
        "outcomes": {1: "failed"},
        "events": {1: event_of(1)},
        "live": {1: record_of(1, PROCESS_ID=PID)},
        "newer": {1: False},
        "in_doubt_until_ms": {},
        "now_ms": NOW,
        "nackable_at_ms": NOW,
    }
    return SettleView(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "plan"),
    [
        ({}, SettlePlan(nack=(1,))),
        ({"nackable_at_ms": NOW + 1}, SettlePlan(keep=(1,), again_at_ms=NOW + 1)),
        ({"newer": {}}, SettlePlan(keep=(1,), look=(1,))),
        ({"newer": {1: True}}, SettlePlan(clear=(1,), superseded=(1,))),
        ({"newer": {1: True}, "nackable_at_ms": NOW + 1}, SettlePlan(clear=(1,), superseded=(1,))),
        ({"live": {1: record_of(1, PROCESS_ID=PID, ERROR="1")}}, SettlePlan(keep=(1,))),
        ({"live": {}}, SettlePlan(gone=(1,))),
        ({"live": None}, SettlePlan(keep=(1,))),
        ({"in_doubt_until_ms": {message_of(1): NOW + 9}}, SettlePlan(keep=(1,), again_at_ms=NOW + 9)),
        ({"in_doubt_until_ms": {message_of(1): NOW}}, SettlePlan(nack=(1,))),
        ({"in_doubt_until_ms": {message_of(1): NOW + 9}, "live": {}}, SettlePlan(gone=(1,))),
        ({"outcomes": {1: "succeeded"}}, SettlePlan(clear=(1,))),
        ({"outcomes": {1: "succeeded"}, "live": None}, SettlePlan(clear=(1,))),
        (
            {"outcomes": {1: "succeeded"}, "in_doubt_until_ms": {message_of(1): NOW + 9}},
            SettlePlan(keep=(1,), again_at_ms=NOW + 9),
        ),
        ({"outcomes": {1: "unfinished"}, "live": {}}, SettlePlan(keep=(1,))),
        ({"outcomes": {}}, SettlePlan()),
    ],
)
def test_each_fate(changes: dict[str, Any], plan: SettlePlan) -> None:
    assert plan_settlement(view_of(**changes)) == plan
