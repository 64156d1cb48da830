"""A dead letter ends when its record has left the portal's queue, and a dead-lettered event keeps nothing else from
ending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from b24offline.delivery import DeadLetterQueue, Settler
from b24offline.delivery.poller import Poller
from b24offline.errors import UnknownAnswer
from b24offline.events import Routes, event_from_record, shipped_catalogue
from b24offline.ledger import BatchKind, Entry
from b24offline.ledger.ledger import MAX_HELD_ATTEMPTS
from b24offline.rest import OfflineQueue
from b24offline.store import Cipher, Store
from tests.support.core_events import (
    PIPELINE,
    PORTAL,
    TIMERS,
    guard_on,
    ledger_on,
    pass_time,
    polled_before,
    reserve,
    reserve_nacked,
)
from tests.support.portal_desk import CONNECTOR, PortalDesk

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis


class Bench:
    """A portal with one nacked record that is held, and everything that may end it."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.redis = redis
        self.desk = PortalDesk()
        self.ledger = polled_before(redis, ledger_on(redis))
        self.fencing = guard_on(redis, self.ledger)
        self.queue = OfflineQueue(self.desk, PORTAL, CONNECTOR)
        self.store = Store(f"sqlite:///{folder / 'store.db'}", Cipher((Fernet.generate_key().decode(),)))
        self.store.create_schema()
        self.dead_letter_queue = DeadLetterQueue(self.ledger, self.store.dead_letters, TIMERS)
        self.settler = Settler(self.ledger, self.fencing, self.queue, TIMERS, self.store.dead_letters)
        self.desk.change("1")
        self.desk.queue.mark(self.desk.now, self.desk.rows()[1])
        batch = reserve_nacked(self.queue, 1)
        assert batch is not None
        self.pid = batch.process_id
        self.event = event_from_record(PORTAL, batch.records[0], shipped_catalogue())
        self.run = f"{self.event.delivery}/{PIPELINE}"
        self.ledger.open(self.pid, [Entry(self.event, (PIPELINE,))], kind=BatchKind.RETRYING)

    def dead_letter(self) -> None:
        (handed,) = self.ledger.start(self.pid)
        self.ledger.back_off(handed.run, handed.attempt, reason="ValueError")
        self.redis.hset(f"{self.ledger.stem}:run:{self.run}", "failures", MAX_HELD_ATTEMPTS)
        self.later(TIMERS.redrive_backoff_seconds[0] + 1)
        (exhausted,) = self.ledger.take_overdue().exhausted
        assert self.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def run_well(self) -> None:
        assert self.dead_letter_queue.redrive(self.run) == "redriven"
        self.later(1)
        (handed,) = self.ledger.take_overdue().runs
        assert self.ledger.succeed(handed.run, handed.attempt).settleable == (self.pid,)

    def open_dead_letters(self) -> int:
        return self.store.dead_letters.count(PORTAL)


@pytest.fixture
def bench(redis: Redis, tmp_path: Path) -> Bench:
    return Bench(redis, tmp_path)


def test_a_dead_lettered_record_is_neither_cleared_nor_looked_at(bench: Bench) -> None:
    bench.dead_letter()
    bench.desk.calls.clear()
    reply = bench.settler.settle(bench.pid)
    assert (reply.state, reply.kept) == ("open", 1)
    assert bench.desk.calls == []
    assert bench.open_dead_letters() == 1


def test_a_dead_lettered_batch_is_settled_once_a_day_only(bench: Bench) -> None:
    bench.dead_letter()
    for _ in range(2):
        bench.later(TIMERS.redrive_backoff_seconds[-1] / 2)
        assert bench.ledger.take_overdue().batches == ()
        bench.later(TIMERS.redrive_backoff_seconds[-1] / 2 + 1)
        assert bench.ledger.take_overdue().batches == (bench.pid,)
        bench.settler.settle(bench.pid)


@pytest.mark.parametrize("how", ["success", "drop"])
def test_its_dead_letter_ends_when_it_was_cleared(bench: Bench, how: str) -> None:
    bench.dead_letter()
    bench.run_well() if how == "success" else bench.dead_letter_queue.drop(bench.run, "somebody")
    assert bench.open_dead_letters() == 1
    assert bench.settler.settle(bench.pid).state == "closed"
    assert bench.open_dead_letters() == 0
    assert bench.desk.rows() == {}


def test_a_lost_answer_of_clear_leaves_the_dead_letter_to_the_next_settle(bench: Bench) -> None:
    bench.dead_letter()
    bench.run_well()
    bench.desk.lose.append("event.offline.clear")
    with pytest.raises(UnknownAnswer):
        bench.settler.settle(bench.pid)
    assert bench.open_dead_letters() == 1
    assert bench.settler.settle(bench.pid).state == "closed"
    assert bench.open_dead_letters() == 0


def test_a_death_before_the_dead_letter_ends_is_made_up_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.dead_letter()
    bench.run_well()

    def die(*_: object) -> int:
        raise ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(bench.store.dead_letters, "end_of_record", die)
        with pytest.raises(ConnectionError):
            bench.settler.settle(bench.pid)
    assert bench.desk.rows() == {}, "nothing to make up for"
    bench.later(TIMERS.settle_lease_seconds + 1)
    assert bench.settler.settle(bench.pid).state == "closed"
    assert bench.open_dead_letters() == 0


def test_a_record_that_the_portal_deleted_still_runs_and_ends(bench: Bench) -> None:
    bench.dead_letter()
    bench.desk.queue.clear_ids(bench.desk.now, CONNECTOR, bench.pid, frozenset({1}))
    bench.run_well()
    assert bench.settler.settle(bench.pid).state == "closed"
    assert bench.open_dead_letters() == 0


def test_a_superseded_dead_lettered_record_is_cleared_alone_and_not_in_a_in_doubt_period(bench: Bench) -> None:
    bench.dead_letter()
    newer = bench.desk.change("1")
    batch = reserve(bench.queue, 50)
    assert batch is not None
    event = event_from_record(PORTAL, batch.records[0], shipped_catalogue())
    assert (event.record_id, event.message_id) == (newer, bench.event.message_id)
    bench.later(1)
    bench.ledger.open(batch.process_id, [Entry(event, (PIPELINE,))], kind=BatchKind.POLLED)
    (handed,) = bench.ledger.start(batch.process_id)
    bench.fencing.open_in_doubt_window({event.message_id}, None)
    assert bench.ledger.succeed(handed.run, handed.attempt).recorded
    assert bench.settler.settle(bench.pid).kept == 1
    bench.later(TIMERS.in_doubt_seconds + 1)
    latest = bench.desk.change("1")
    assert bench.settler.settle(bench.pid).acknowledged == 1
    assert set(bench.desk.rows()) == {newer, latest}
    assert bench.open_dead_letters() == 0


def poller_of(bench: Bench) -> Poller:
    bench.store.portals.seed(
        PORTAL, client_endpoint="https://x", auth_url="https://y", client_id="c", client_secret="s", connector=CONNECTOR
    )
    routes = Routes()
    routes.add(lambda event: None, ("ONCRMDEALUPDATE",), PIPELINE)
    return Poller(
        portal=PORTAL,
        queue=bench.queue,
        ledger=bench.ledger,
        fencing=bench.fencing,
        store=bench.store,
        catalogue=shipped_catalogue(),
        routes=routes,
        unrouted="ack",
    )


def test_nacked_orphans_are_adopted_into_the_lane_of_retrying_ones(bench: Bench) -> None:
    bench.redis.flushall()
    bench.desk.change("2")
    unmarked = reserve(bench.queue, 50)
    assert unmarked is not None
    poller = poller_of(bench)
    assert bench.store.portals.claim(PORTAL)
    for seconds in (TIMERS.recovery_seconds, TIMERS.sighting_seconds):
        assert poller.adopt() == ()
        bench.later(seconds + 1)
    assert set(poller.adopt()) == {bench.pid, unmarked.process_id}
    assert bench.ledger.kind(bench.pid) is BatchKind.RETRYING
    assert bench.ledger.kind(unmarked.process_id) is BatchKind.ADOPTED


def test_a_dead_lettered_event_does_not_keep_a_portal_from_draining(bench: Bench) -> None:
    assert bench.ledger.working_batches()
    bench.dead_letter()
    assert bench.ledger.kind(bench.pid) is BatchKind.DEAD_LETTERED
    assert bench.ledger.working_batches() == {}
    bench.run_well()
    assert bench.ledger.working_batches()


def test_an_ended_dead_letter_keeps_its_reason_and_says_what_ended_it(bench: Bench) -> None:
    bench.dead_letter()
    assert bench.store.dead_letters.end(1, "dropped by somebody")
    assert not bench.store.dead_letters.end(1, "dropped by another")
    dead_letter = bench.store.dead_letters.get(1)
    assert dead_letter.reason == "ValueError; dropped by somebody"
    assert dead_letter.ended_at is not None
    assert datetime.now(UTC) - dead_letter.ended_at < timedelta(minutes=1)
