"""How runs become chunks, and what becomes of each event of one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.config import Timers
from b24offline.delivery import (
    EventFailed,
    Exhaust,
    Fail,
    Failed,
    Permanent,
    Ready,
    RetryIn,
    WrongAnswer,
    apart,
    chunks,
    come_again,
    ends,
    failures_in,
    waits_as_one,
)
from b24offline.errors import ConfigError
from b24offline.ledger import RunCalls, RunRef
from tests.support.core_events import event_of

SIZES = {"small": 2, "large": 50}
ready_runs = st.lists(st.tuples(st.sampled_from(sorted(SIZES)), st.booleans()), max_size=200).map(
    lambda rows: [Ready(RunRef(f"{n}/p", n), kind, SIZES[kind], alone) for n, (kind, alone) in enumerate(rows)]
)
verdicts = st.sampled_from(
    [
        None,
        Fail("x", 2.0),
        Exhaust("x"),
        RetryIn(2.0, counted=True, restart=False, reason="x"),
        RetryIn(30.0, counted=False, restart=False, reason="x"),
        RetryIn(90.0, counted=True, restart=True, reason="x"),
        apart("x"),
    ]
)


@given(ready_runs)
def test_every_run_is_in_one_chunk_of_its_kind(ready: list[Ready]) -> None:
    kinds, alone = {one.run: one.kind for one in ready}, {one.run for one in ready if one.alone}
    found = chunks(ready)
    assert Counter(run for chunk in found for run in chunk) == Counter(one.run for one in ready)
    for chunk in found:
        (kind,) = {kinds[run] for run in chunk}
        assert len(chunk) <= SIZES[str(kind)]
        assert len(chunk) == 1 or not alone & set(chunk), "a run that died before takes others with it"
        assert list(chunk) == sorted(chunk, key=lambda run: run.attempt), "the order of the runs is lost"
    assert [chunk[0].attempt for chunk in found] == sorted(chunk[0].attempt for chunk in found)


@given(ready_runs)
def test_chunks_are_as_full_as_they_may_be(ready: list[Ready]) -> None:
    alone = [one for one in ready if one.alone]
    others = Counter(str(one.kind) for one in ready if not one.alone)
    assert len(chunks(ready)) == len(alone) + sum(-(-count // SIZES[kind]) for kind, count in others.items())


def test_nothing_or_no_failures_is_success() -> None:
    assert failures_in(None, {"1@2"}) == failures_in([], {"1@2"}) == failures_in(iter(()), {"1@2"}) == {}


def test_each_failure_is_an_error_of_its_own_event() -> None:
    one, other, third = event_of(1), event_of(2), event_of(3)
    error = ValueError("x")
    answer = (
        Failed(one, "no company"),
        Failed(other, error),
        Failed(third, "no company", final=True),
        Failed(one, "again"),
    )
    found = failures_in(answer, {each.delivery for each in (one, other, third)})
    assert [type(found[each.delivery]) for each in (one, other, third)] == [EventFailed, ValueError, Permanent]
    assert str(found[one.delivery]) == "no company", "the first failure of an event counts"
    assert found[other.delivery] is error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("Mrs. Canary"), "ValueError"),
        (ConfigError("no queue of that name"), "no queue of that name"),
    ],
)
def test_a_final_exception_says_no_more_than_may_be_said(error: Exception, words: str) -> None:
    final = Failed(event_of(1), error, final=True).error
    assert isinstance(final, Permanent)
    assert (str(final), final.__cause__) == (words, error)


@pytest.mark.parametrize(
    "answer", ["failed", b"x", 3, {"1@2": "x"}, ["1@2"], [Failed(event_of(9), "x")], True], ids=repr
)
def test_what_cannot_be_read_as_failures_is_no_success(answer: Any) -> None:
    with pytest.raises(WrongAnswer):
        failures_in(answer, {event_of(1).delivery})


@given(st.lists(verdicts, max_size=60))
def test_each_run_ends_once_and_comes_again_as_its_verdict_says(given_verdicts: list[Any]) -> None:
    judged = {RunRef(f"{n}/p", n): verdict for n, verdict in enumerate(given_verdicts)}
    calls = ends(RunCalls(Timers(), "{}"), judged)
    assert calls.keys() == judged.keys()
    assert all(call.args[:2] == (run.run, run.attempt) for run, call in calls.items())
    again = come_again(judged)
    assert {run for runs in again.values() for run in runs} == {
        run for run, call in calls.items() if call.script == "retry_step"
    }, "a run waits for a message that nobody sends, or one comes that nobody waits for"
    assert all(getattr(judged[run], "wait_seconds", None) == wait for wait, runs in again.items() for run in runs)
    outcomes = {run: call.args[2] for run, call in calls.items() if call.script == "finish_run"}
    assert outcomes == {
        run: "succeeded" if verdict is None else "failed"
        for run, verdict in judged.items()
        if verdict is None or isinstance(verdict, Fail)
    }


def test_a_chunk_waits_as_one_for_what_concerns_none_of_its_events() -> None:
    assert waits_as_one(RetryIn(30.0, counted=False, restart=False, reason="x"))
    assert not waits_as_one(RetryIn(2.0, counted=True, restart=False, reason="x"))
    assert not waits_as_one(Fail("x", 2.0))
    assert not waits_as_one(Exhaust("x"))
