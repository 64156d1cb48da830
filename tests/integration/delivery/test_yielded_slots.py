"""Held and dead-lettered runs yield their slot: newer changes of their object go first; of one message the newest
stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.ledger import BatchKind, SettleLease
from tests.support.core_events import TIMERS, entry_of, opened, ran, run_of
from tests.support.dead_letter_bench import RUN, Bench

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def bench(redis: Redis, tmp_path: Path) -> Bench:
    return Bench(redis, tmp_path)


def test_a_dead_lettered_run_does_not_hold_its_object_up(bench: Bench) -> None:
    bench.dead_lettered()
    assert bench.ledger.succeed(run_of(2), bench.again(2).attempt).recorded


def test_a_retrying_run_that_waits_does_not_hold_its_object_up(bench: Bench) -> None:
    bench.ledger.open("p2", [entry_of(2, "1")], kind=BatchKind.POLLED)
    assert bench.ledger.start("p2") == (), "two runs of one object at once"
    bench.fail_once(bench.handed)
    bench.later(1)
    (handed,) = bench.ledger.take_overdue().runs
    assert handed.run == run_of(2)


def test_messages_of_a_run_that_stands_aside_are_void(bench: Bench) -> None:
    bench.fail_once(bench.handed)
    assert bench.ledger.begin_step(RUN, bench.handed.attempt, 1) is None, "it began beside a newer run of its object"
    assert not bench.ledger.succeed(RUN, bench.handed.attempt).recorded


def test_one_that_stood_aside_waits_for_its_turn(bench: Bench) -> None:
    bench.fail_once(bench.handed)
    newer = bench.again(2)
    bench.later(50)
    bench.ledger.renew(newer.run, newer.attempt, 0)
    bench.redis.zadd(f"{bench.ledger.stem}:due", {f"run:{RUN}": 0})
    assert bench.ledger.take_overdue().runs == ()
    assert bench.state() == "ready"
    reply = bench.ledger.fail(newer.run, newer.attempt, "x", backoff_seconds=0.001)
    assert reply.recorded
    bench.later(1)
    assert [one.run for one in bench.ledger.take_overdue().runs] == [RUN]


@pytest.mark.parametrize("dead_lettered", [True, False])
def test_success_of_a_newer_record_of_the_message_supersedes(bench: Bench, dead_lettered: bool) -> None:
    if dead_lettered:
        bench.dead_lettered()
    else:
        bench.fail_once(bench.handed)
    newer = bench.again(2)
    assert bench.ledger.succeed(newer.run, newer.attempt).recorded
    assert bench.state() == "superseded"
    assert "p1" in bench.ledger.take_overdue().batches
    settling = bench.ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {1: "succeeded"}
    assert not list(bench.redis.scan_iter("*:yielded:*"))


@pytest.mark.parametrize("why", ["failed", "older", "other message", "other pipeline", "seen before"])
def test_nothing_else_supersedes(bench: Bench, why: str) -> None:
    bench.dead_lettered()
    bench.later(1)
    entry = {
        "older": entry_of(0, "1", stamp="2026-04-03T08:44:09+02:00"),
        "other message": entry_of(2, "1", message_id="f" * 32),
        "other pipeline": entry_of(2, "1", "other"),
    }.get(why, entry_of(2, "1"))
    (newer,) = opened(bench.ledger, "p2", entry)
    if why == "seen before":
        bench.redis.hset(f"{bench.ledger.stem}:run:{newer.run}", "seen", bench.ledger.run_fields(RUN, "seen")[0])
    ran(bench.ledger, newer)
    if why == "failed":
        bench.ledger.fail(newer.run, newer.attempt, "x", backoff_seconds=1)
    else:
        assert bench.ledger.succeed(newer.run, newer.attempt).recorded
    assert bench.state() == "dead_lettered"


def test_of_one_message_only_the_newest_retrying_record_stays_and_keeps_the_count(bench: Bench) -> None:
    for _ in range(3):
        bench.fail_once(bench.handed)
        bench.until_due(RUN)
        (bench.handed,) = bench.ledger.take_overdue().runs
        ran(bench.ledger, bench.handed)
    bench.fail_once(bench.handed)
    bench.fail_once(bench.hold(2))
    assert bench.state(1) == "superseded"
    assert bench.ledger.run_fields(run_of(2), "state", "failures") == ("waiting", "4")


def test_an_older_one_that_steps_aside_later_gives_way(bench: Bench) -> None:
    bench.ledger.open("p2", [entry_of(2, "1", nacked=True)], kind=BatchKind.RETRYING)
    bench.fail_once(bench.handed)
    bench.later(1)
    (newer,) = bench.ledger.take_overdue().runs
    ran(bench.ledger, newer)
    bench.fail_once(newer)
    assert (bench.state(1), bench.state(2)) == ("superseded", "waiting")


def test_one_dead_lettered_while_it_was_handed_out_leaves_its_object_queue(bench: Bench) -> None:
    bench.fail_once(bench.handed)
    bench.until_due(RUN)
    assert [one.run for one in bench.ledger.take_overdue().runs] == [RUN]
    opened(bench.ledger, "p2", entry_of(2, "1"))
    bench.later(TIMERS.dead_letter_after_seconds)
    (exhausted,) = bench.ledger.take_overdue().exhausted
    assert bench.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    bench.later(1)
    assert [one.run for one in bench.ledger.take_overdue().runs] == [run_of(2)]
