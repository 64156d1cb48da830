"""Held and dead-lettered runs yield their slot: newer changes of their object go first; of one message the newest
stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.ledger import BatchKind, SettleLease
from tests.support.core_events import TIMERS, entry_of, opened, ran, run_of
from tests.support.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


RUN = run_of(1)


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    """Return a deployment with a retrying run that has begun."""
    acme = Deployment(redis, tmp_path)
    acme.handed = acme.retry(1)
    return acme


def test_a_dead_lettered_run_does_not_hold_its_object_up(acme: Deployment) -> None:
    acme.dead_letter(acme.handed)
    assert acme.ledger.succeed(run_of(2), acme.newer(2).attempt).recorded


def test_a_retrying_run_that_waits_does_not_hold_its_object_up(acme: Deployment) -> None:
    acme.ledger.open("p2", [entry_of(2, "1")], kind=BatchKind.POLLED)
    assert acme.ledger.start("p2") == (), "two runs of one object at once"
    acme.fail_once(acme.handed)
    acme.later(1)
    (handed,) = acme.ledger.take_overdue().runs
    assert handed.run == run_of(2)


def test_messages_of_a_run_that_stands_aside_are_void(acme: Deployment) -> None:
    acme.fail_once(acme.handed)
    assert acme.ledger.begin_step(RUN, acme.handed.attempt, 1) is None, "it began beside a newer run of its object"
    assert not acme.ledger.succeed(RUN, acme.handed.attempt).recorded


def test_one_that_stood_aside_waits_for_its_turn(acme: Deployment) -> None:
    acme.fail_once(acme.handed)
    newer = acme.newer(2)
    acme.later(50)
    acme.ledger.renew(newer.run, newer.attempt, 0)
    acme.redis.zadd(f"{acme.ledger.stem}:due", {f"run:{RUN}": 0})
    assert acme.ledger.take_overdue().runs == ()
    assert acme.state() == "ready"
    reply = acme.ledger.fail(newer.run, newer.attempt, "x", backoff_seconds=0.001)
    assert reply.recorded
    acme.later(1)
    assert [one.run for one in acme.ledger.take_overdue().runs] == [RUN]


@pytest.mark.parametrize("dead_lettered", [True, False])
def test_success_of_a_newer_record_of_the_message_supersedes(acme: Deployment, dead_lettered: bool) -> None:
    if dead_lettered:
        acme.dead_letter(acme.handed)
    else:
        acme.fail_once(acme.handed)
    newer = acme.newer(2)
    assert acme.ledger.succeed(newer.run, newer.attempt).recorded
    assert acme.state() == "superseded"
    assert "p1" in acme.ledger.take_overdue().batches
    settling = acme.ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    assert settling.outcomes == {1: "succeeded"}
    assert not list(acme.redis.scan_iter("*:yielded:*"))


@pytest.mark.parametrize("why", ["failed", "older", "other message", "other pipeline", "seen before"])
def test_nothing_else_supersedes(acme: Deployment, why: str) -> None:
    acme.dead_letter(acme.handed)
    acme.later(1)
    entry = {
        "older": entry_of(0, "1", stamp="2026-04-03T08:44:09+02:00"),
        "other message": entry_of(2, "1", message_id="f" * 32),
        "other pipeline": entry_of(2, "1", "other"),
    }.get(why, entry_of(2, "1"))
    (newer,) = opened(acme.ledger, "p2", entry)
    if why == "seen before":
        acme.redis.hset(f"{acme.ledger.stem}:run:{newer.run}", "seen", acme.ledger.run_fields(RUN, "seen")[0])
    ran(acme.ledger, newer)
    if why == "failed":
        acme.ledger.fail(newer.run, newer.attempt, "x", backoff_seconds=1)
    else:
        assert acme.ledger.succeed(newer.run, newer.attempt).recorded
    assert acme.state() == "dead_lettered"


def test_of_one_message_only_the_newest_retrying_record_stays_and_keeps_the_count(acme: Deployment) -> None:
    for _ in range(3):
        acme.fail_once(acme.handed)
        acme.until_due(RUN)
        (acme.handed,) = acme.ledger.take_overdue().runs
        ran(acme.ledger, acme.handed)
    acme.fail_once(acme.handed)
    acme.fail_once(acme.retry(2))
    assert acme.state(1) == "superseded"
    assert acme.ledger.run_fields(run_of(2), "state", "failures") == ("waiting", "4")


def test_an_older_one_that_steps_aside_later_gives_way(acme: Deployment) -> None:
    acme.ledger.open("p2", [entry_of(2, "1", nacked=True)], kind=BatchKind.RETRYING)
    acme.fail_once(acme.handed)
    acme.later(1)
    (newer,) = acme.ledger.take_overdue().runs
    ran(acme.ledger, newer)
    acme.fail_once(newer)
    assert (acme.state(1), acme.state(2)) == ("superseded", "waiting")


def test_one_dead_lettered_while_it_was_handed_out_leaves_its_object_queue(acme: Deployment) -> None:
    acme.fail_once(acme.handed)
    acme.until_due(RUN)
    assert [one.run for one in acme.ledger.take_overdue().runs] == [RUN]
    opened(acme.ledger, "p2", entry_of(2, "1"))
    acme.later(TIMERS.dead_letter_after_seconds)
    (exhausted,) = acme.ledger.take_overdue().exhausted
    assert acme.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
    acme.later(1)
    assert [one.run for one in acme.ledger.take_overdue().runs] == [run_of(2)]
