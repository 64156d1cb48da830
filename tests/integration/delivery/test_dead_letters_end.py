"""A dead letter ends when its record has left the portal's queue, and a dead-lettered event keeps nothing else from
ending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from b24offline.errors import UnknownAnswer
from b24offline.events import event_from_record, shipped_catalogue
from b24offline.ledger import BatchKind, Entry, run_id
from tests.support.core_events import (
    PIPELINE,
    PORTAL,
    TIMERS,
    ran,
    reserve,
)
from tests.support.deployment import Deployment
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    """Return a deployment with a nacked record that is retrying."""
    acme = Deployment(redis, tmp_path)
    acme.nacked("1")
    assert acme.poller.redrive(list(acme.queue.nacked())) != ()
    return acme


def process_id(acme: Deployment) -> str:
    """Return that of the retrying batch, the first that was opened."""
    return next(iter(acme.ledger.open_batches()))


def run(acme: Deployment) -> str:
    (event,) = acme.ledger.events(process_id(acme)).values()
    return run_id(event, PIPELINE)


def dead_letter(acme: Deployment) -> None:
    (handed,) = acme.ledger.start(process_id(acme))
    acme.dead_letter(ran(acme.ledger, handed))


def run_well(acme: Deployment) -> None:
    assert acme.dead_letter_queue.redrive(run(acme)) == "redriven"
    acme.later(1)
    (handed,) = acme.ledger.take_overdue().runs
    assert acme.ledger.succeed(handed.run, handed.attempt).settleable == (process_id(acme),)


def open_dead_letters(acme: Deployment) -> int:
    return acme.store.dead_letters.count(PORTAL)


def test_a_dead_lettered_record_is_neither_cleared_nor_looked_at(acme: Deployment) -> None:
    dead_letter(acme)
    acme.desk.calls.clear()
    reply = acme.settler.settle(process_id(acme))
    assert (reply.state, reply.kept) == ("open", 1)
    assert acme.desk.calls == []
    assert open_dead_letters(acme) == 1


def test_a_dead_lettered_batch_is_settled_once_a_day_only(acme: Deployment) -> None:
    dead_letter(acme)
    for _ in range(2):
        acme.later(TIMERS.redrive_backoff_seconds[-1] / 2)
        assert acme.ledger.take_overdue().batches == ()
        acme.later(TIMERS.redrive_backoff_seconds[-1] / 2 + 1)
        assert acme.ledger.take_overdue().batches == (process_id(acme),)
        acme.settler.settle(process_id(acme))


@pytest.mark.parametrize("how", ["success", "drop"])
def test_its_dead_letter_ends_when_it_was_cleared(acme: Deployment, how: str) -> None:
    dead_letter(acme)
    run_well(acme) if how == "success" else acme.dead_letter_queue.drop(run(acme), "somebody")
    assert open_dead_letters(acme) == 1
    assert acme.settler.settle(process_id(acme)).state == "closed"
    assert open_dead_letters(acme) == 0
    assert acme.desk.rows() == {}


def test_a_lost_answer_of_clear_leaves_the_dead_letter_to_the_next_settle(acme: Deployment) -> None:
    dead_letter(acme)
    run_well(acme)
    acme.desk.lose.append("event.offline.clear")
    with pytest.raises(UnknownAnswer):
        acme.settler.settle(process_id(acme))
    assert open_dead_letters(acme) == 1
    assert acme.settler.settle(process_id(acme)).state == "closed"
    assert open_dead_letters(acme) == 0


def test_a_death_before_the_dead_letter_ends_is_made_up_for(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_letter(acme)
    run_well(acme)

    def die(*_: object) -> int:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(acme.store.dead_letters, "end_of_record", die)
        with pytest.raises(ConnectionError):
            acme.settler.settle(process_id(acme))
    assert acme.desk.rows() == {}, "nothing to make up for"
    acme.later(TIMERS.settle_lease_seconds + 1)
    assert acme.settler.settle(process_id(acme)).state == "closed"
    assert open_dead_letters(acme) == 0


def test_a_record_that_the_portal_deleted_still_runs_and_ends(acme: Deployment) -> None:
    dead_letter(acme)
    acme.desk.queue.clear_ids(acme.desk.now, CONNECTOR, process_id(acme), frozenset({1}))
    run_well(acme)
    assert acme.settler.settle(process_id(acme)).state == "closed"
    assert open_dead_letters(acme) == 0


def test_a_superseded_dead_lettered_record_is_cleared_alone_once_out_of_doubt(acme: Deployment) -> None:
    dead_letter(acme)
    newer = acme.desk.change("1")
    batch = reserve(acme.queue, 50)
    assert batch is not None
    event = event_from_record(PORTAL, batch.records[0], shipped_catalogue())
    assert (event.record_id, event.message_id) == (newer, acme.desk.rows()[1].message_id)
    acme.later(1)
    acme.ledger.open(batch.process_id, [Entry(event, (PIPELINE,))], kind=BatchKind.POLLED)
    (handed,) = acme.ledger.start(batch.process_id)
    acme.fencing.open_in_doubt_window({event.message_id}, None)
    assert acme.ledger.succeed(handed.run, handed.attempt).recorded
    assert acme.settler.settle(process_id(acme)).kept == 1
    acme.later(TIMERS.in_doubt_seconds + 1)
    latest = acme.desk.change("1")
    assert acme.settler.settle(process_id(acme)).acknowledged == 1
    assert set(acme.desk.rows()) == {newer, latest}
    assert open_dead_letters(acme) == 0


def test_nacked_orphans_are_adopted_as_retrying_ones(acme: Deployment) -> None:
    pid = process_id(acme)
    acme.redis.flushall()
    acme.desk.change("2")
    unmarked = reserve(acme.queue, 50)
    assert unmarked is not None
    for seconds in (TIMERS.recovery_seconds, TIMERS.sighting_seconds):
        assert acme.poller.adopt() == ()
        acme.later(seconds + 1)
    assert set(acme.poller.adopt()) == {pid, unmarked.process_id}
    assert acme.ledger.kind(pid) is BatchKind.RETRYING
    assert acme.ledger.kind(unmarked.process_id) is BatchKind.ADOPTED


def test_a_dead_lettered_event_does_not_keep_a_portal_from_draining(acme: Deployment) -> None:
    assert acme.ledger.working_batches()
    dead_letter(acme)
    assert acme.ledger.kind(process_id(acme)) is BatchKind.DEAD_LETTERED
    assert acme.ledger.working_batches() == {}
    run_well(acme)
    assert acme.ledger.working_batches()


def test_an_ended_dead_letter_keeps_its_reason_and_says_what_ended_it(acme: Deployment) -> None:
    dead_letter(acme)
    assert acme.store.dead_letters.end(1, "dropped by somebody")
    assert not acme.store.dead_letters.end(1, "dropped by another")
    ended = acme.store.dead_letters.get(1)
    assert ended.reason == "ValueError; dropped by somebody"
    assert ended.ended_at is not None
    assert datetime.now(UTC) - ended.ended_at < timedelta(minutes=1)
