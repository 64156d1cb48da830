"""The checker of the fault runs: a bad history for each of its zeros, and good ones that it lets pass."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline import failpoints
from tests.faults.checker import Verdict, judge
from tests.faults.evidence import GONE, Bounds, Change, Evidence, Holding, Moment, Name, Span, fingerprint, spans
from tests.faults.leaks import leaks_in

DEAL: Name = ("crm_deal", "7")
EVENT = "ONCRMDEALUPDATE"
MESSAGE = "m" * 32
PIPELINES = {EVENT: ("tracked",)}


def moment(seq: int, kind: str, record: int = 1, **more: object) -> Moment:
    values = {"seq": seq, "wall": float(seq), "kind": kind, "record": record, "message": MESSAGE, "event": EVENT}
    return Moment(**{**values, "name": DEAL, "stamp": 100, **more})  # type: ignore[arg-type]


def span(start: float, end: float | None, record: int = 1, **more: object) -> Span:
    values = {"span": f"{record}-{start}", "name": DEAL, "delivery": f"{record}@100", "pipeline": "tracked"}
    ends = {"effect": end, "end": end, "ok": end is not None, "saw": "now"}
    return Span(**{**values, "run": f"{record}", "last": True, "start": start, **ends, **more})  # type: ignore[arg-type]


def story(moments: list[Moment], runs: list[Span], **more: object) -> Evidence:
    changed = tuple(Change(each.seq - 1, each.wall, DEAL, "update") for each in moments if each.kind == "queued")
    values = {"moments": tuple(moments), "changes": changed, "spans": tuple(runs), "pipelines": PIPELINES}
    return Evidence(**{**values, "objects": {DEAL: "now"}, **more})  # type: ignore[arg-type]


LIFE = [moment(2, "queued"), moment(4, "reserved", process_id="p"), moment(20, "cleared", process_id="p", by="clear")]


def test_a_change_that_was_run_and_cleared_is_fine() -> None:
    assert judge(story(LIFE, [span(5, 8)])) == Verdict()


def test_a_change_after_the_last_run_is_lost() -> None:
    late = moment(30, "queued", 2, name=DEAL)
    found = judge(story([*LIFE, late, moment(31, "dropped", 2)], [span(5, 8)]))
    assert len(found.lost) == 1


def test_a_restamped_record_counts_as_a_change() -> None:
    found = judge(story([moment(2, "queued"), moment(9, "restamped"), *LIFE[1:]], [span(5, 8)]))
    assert len(found.lost) == 1


def test_a_run_that_did_not_complete_does_not_count() -> None:
    assert judge(story(LIFE, [span(5, None)])).lost
    assert judge(story(LIFE, [span(5, 8, ok=False)])).lost
    assert judge(story(LIFE, [span(5, 8, last=False)])).lost


def test_a_run_begins_with_its_first_step() -> None:
    steps = [span(1, 1.5, last=False, span="a"), span(5, 8, span="b")]
    assert judge(story(LIFE, steps)).lost


def test_what_waits_as_nacked_retrying_or_dead_lettered_is_not_lost() -> None:
    nacked = [moment(2, "queued"), moment(4, "reserved", process_id="p"), moment(9, "nacked", nacked=True, before="p")]
    assert not judge(story(nacked, [])).lost
    retrying = [*nacked, moment(10, "reserved", nacked=True, process_id="q")]
    assert not judge(story(retrying, [], known=frozenset({1}))).lost


def test_every_pipeline_of_the_event_must_have_run() -> None:
    both = {EVENT: ("tracked", "counted")}
    assert judge(story(LIFE, [span(5, 8)], pipelines=both)).lost


def test_a_run_that_saw_an_older_state_is_stale() -> None:
    assert judge(story(LIFE, [span(5, 8, saw="before")])).stale
    assert judge(story(LIFE, [span(5, 8)], objects={DEAL: GONE})).stale
    assert not judge(story(LIFE, [span(5, 8, saw=GONE)], objects={DEAL: GONE})).stale


def test_a_record_cleared_without_a_run_is_unfinished() -> None:
    assert len(judge(story(LIFE, [])).unfinished) == 1
    assert judge(story(LIFE, [span(5, 21)])).unfinished, "a run that ended afterwards does not count"
    assert judge(story([LIFE[0], moment(3, "cleared", by="get")], [])).unfinished


def test_another_delivery_of_the_record_is_no_excuse() -> None:
    assert judge(story(LIFE, [span(5, 8, delivery="1@99")])).unfinished


def test_a_superseded_record_may_be_cleared_without_a_run() -> None:
    newer = [moment(10, "queued", 2), moment(22, "reserved", 2, process_id="q")]
    newer.append(moment(40, "cleared", 2, process_id="q", by="clear"))
    moments = sorted([*LIFE, *newer], key=lambda each: each.seq)
    assert judge(story(moments, [span(25, 30, 2)])) == Verdict()
    assert judge(story([*LIFE, moment(30, "queued", 2)], [])).unfinished, "newer, but only after the clear"


def test_an_error_call_that_leaves_nothing_destroys() -> None:
    deleted = [moment(2, "queued"), moment(9, "deleted_by_error", by="stale")]
    assert len(judge(story(deleted, [])).destroyed) == 1


def test_an_error_call_that_leaves_a_free_nacked_record_does_not() -> None:
    fine = [
        moment(2, "queued"),
        moment(4, "reserved", process_id="p"),
        moment(6, "queued", 2),
        moment(9, "deleted_by_error", 2, by="p"),
        moment(10, "nacked", nacked=True, before="p"),
    ]
    assert not judge(story(fine, [])).destroyed
    assert judge(story([*fine[:3], fine[3]], [])).destroyed
    retrying = replace(fine[4], process_id="q")
    assert judge(story([*fine[:4], retrying], [])).destroyed, "a retrying one is cleared without a look at repeats"


def test_a_record_that_stays_reserved_is_stuck_unless_it_is_known() -> None:
    assert len(judge(story(LIFE[:2], [span(5, 8)])).stuck) == 1
    assert not judge(story(LIFE[:2], [span(5, 8)], known=frozenset({1}))).stuck


def test_two_runs_of_one_object_at_once_overlap() -> None:
    assert len(judge(story(LIFE, [span(5, 8), span(7, 9, 2)])).overlap) == 1
    assert not judge(story(LIFE, [span(5, 8), span(7, 9, 2, pipeline="counted")])).overlap
    assert not judge(story(LIFE, [span(5, 8), span(7, 9, 2, name=("crm_deal", "8"))])).overlap
    assert not judge(story(LIFE, [span(5, 8), span(8.5, 9, 2)])).overlap


def test_a_run_overlaps_between_its_steps_too() -> None:
    steps = [span(1, 2, span="a", last=False), span(8, 9, span="b")]
    assert judge(story(LIFE, [*steps, span(4, 5, 2)])).overlap


def test_one_step_twice_at_once_is_an_overlap() -> None:
    assert judge(story(LIFE, [span(5, 8, span="a"), span(6, 7, span="b")])).overlap


def test_a_run_that_was_killed_ends_with_its_last_sign() -> None:
    assert not judge(story(LIFE, [span(5, None, run="1"), span(6, 8, run="2")])).overlap
    assert judge(story(LIFE, [span(5, None, effect=7.0), span(6, 8, run="2")])).overlap


def test_effects_beyond_the_first_are_repeats() -> None:
    assert judge(story(LIFE, [span(5, 6), span(7, 8, run="2"), span(9, 10, run="3")])).repeats == 2
    assert judge(story(LIFE, [span(5, 6), span(7, 8, 2)])).repeats == 0


def test_a_change_that_was_never_queued_is_invisible_and_not_lost() -> None:
    unseen = (Change(1, 1.0, DEAL, "update"), Change(50, 50.0, DEAL, "update"))
    found = judge(story(LIFE, [span(5, 8)], changes=unseen))
    assert (found.invisible, found.lost, found.stale) == (1, (), ())


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 10)), min_size=2, max_size=8))
def test_overlap_is_found_exactly_when_intervals_meet(intervals: list[tuple[float, float]]) -> None:
    runs = [span(start, start + length, record + 1) for record, (start, length) in enumerate(intervals)]
    ordered = sorted((each.start, each.last_sign) for each in runs)
    meets = any(second[0] < max(end for _, end in ordered[: i + 1]) for i, second in enumerate(ordered[1:]))
    assert bool(judge(story([], runs)).overlap) == meets


@given(st.permutations(["start", "effect", "end"]).filter(lambda marks: marks[0] == "start"))
def test_the_journal_is_put_together_in_any_order_after_its_start(marks: list[str]) -> None:
    run = {"portal": "acme", "delivery": "1@100", "pipeline": "tracked", "run": "r", "last": True}
    known = {"entity": "crm_deal", "object": "7", **run}
    lines = [json.dumps({"span": "s", "mark": mark, "wall": 5.0, "saw": "now", **known}) for mark in marks]
    [found] = spans(lines, "acme")
    assert not spans(lines, "other")
    assert (found.start, found.effect, found.end, found.ok, found.saw) == (5.0, 5.0, 5.0, True, "now")


def test_fingerprints_differ_by_content_only() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1})
    assert fingerprint(None) == GONE


@pytest.mark.parametrize("prefix", ["", "x", "xy", "xyz"])
def test_leaks_are_found_inside_of_messages(prefix: str) -> None:
    token = "0123456789abcdef" * 4 + "012345"
    body = base64.b64encode(f"{prefix} {token} Website form".encode()).decode()
    line = json.dumps({"body": body}).encode()
    assert leaks_in(line) == {"token", "customer"}
    assert leaks_in(line, private=False) == {"token"}
    assert leaks_in(token.encode()) == {"token"}
    assert not leaks_in(b"f" * 64 + b" " + b"e" * 71)


@pytest.mark.parametrize(
    ("holding", "what"),
    [((50, 900, 7000), ""), ((51, 9, 9), "rows"), ((9, 901, 9), "record_bytes"), ((9, 9, 7001), "total_bytes")],
)
def test_a_ledger_beyond_a_bound_is_flooded(holding: tuple[int, int, int], what: str) -> None:
    samples = (Holding(5.0, 1, 1, 1), Holding(6.0, *holding), Holding(7.0, 1, 1, 1))
    found = judge(story([], [], holdings=samples, bounds=Bounds(50, 900, 7000))).flooded
    assert [sentence.split()[0] for sentence in found] == ([what] if what else [])
    assert not judge(story([], [], holdings=samples)).flooded, "a row without bounds takes samples for others"


DYING = "from b24offline.failpoints import failpoint; failpoint('here'); print('alive')"


@pytest.mark.parametrize("whom", ["child", "group"])
def test_a_failpoint_kills_once_and_only_where_it_is_armed(tmp_path: Path, whom: str) -> None:
    def passes(environ: dict[str, str]) -> bool:
        command = [sys.executable, "-c", DYING]
        env = {**os.environ, **environ}
        reply = subprocess.run(command, check=False, env=env, stdout=subprocess.PIPE, start_new_session=True)
        return reply.stdout == b"alive\n"

    armed = tmp_path / "here"
    armed.write_text(whom)
    assert passes({}), "nothing happens without the variable"
    assert armed.exists()
    assert not passes({failpoints.VARIABLE: str(tmp_path)})
    assert passes({failpoints.VARIABLE: str(tmp_path)}), "it fires once"
