"""Settling against a portal's queue: one call when all is well, and nothing destroyed when it is not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from b24offline.delivery import Settler
from b24offline.delivery.settler import SettleResult
from b24offline.errors import PortalError, QueryLimitExceeded, RateLimited, UnknownAnswer
from b24offline.events import event_from_record, shipped_catalogue
from b24offline.ledger import BatchKind, Entry, SettleLease
from b24offline.rest import QUEUE_PAGE, OfflineQueue
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
from tests.support.portal_desk import CONNECTOR, PortalDesk, refusal

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.config import Timers

OLD = TIMERS.nack_age_seconds + 1


class Bench:
    """A ledger, a portal, and the settler between them."""

    def __init__(self, redis: Redis, timers: Timers = TIMERS) -> None:
        self.redis = redis
        self.desk = PortalDesk()
        self.ledger = polled_before(redis, ledger_on(redis, timers))
        self.fencing = guard_on(redis, self.ledger, timers)
        self.queue = OfflineQueue(self.desk, PORTAL, CONNECTOR)
        self.settler = Settler(self.ledger, self.fencing, self.queue, timers)

    def batch(self, outcomes: str, *, nacked: bool = False, deals: str = "") -> str:
        """Change a deal for each dead letter, reserves them and records: s succeeded, f failed, u unfinished."""
        for number, _ in enumerate(outcomes):
            self.desk.change(deals[number] if deals else f"{number + 1}")
        if nacked:
            for row in list(self.desk.rows().values()):
                self.desk.queue.mark(self.desk.now, row)
        return self.reserved(outcomes, nacked=nacked)

    def reserved(self, outcomes: str, *, nacked: bool = False) -> str:
        method = reserve_nacked(self.queue, 1) if nacked else reserve(self.queue, 500)
        assert method is not None
        events = [event_from_record(PORTAL, one, shipped_catalogue()) for one in method.records]
        self.ledger.open(method.process_id, [Entry(one, (PIPELINE,)) for one in events], kind=BatchKind.POLLED)
        handed = {one.run: one.attempt for one in self.ledger.start(method.process_id)}
        for event, dead_letter in zip(events, outcomes, strict=True):
            run = f"{event.delivery}/{PIPELINE}"
            if dead_letter == "s":
                self.ledger.succeed(run, handed[run])
            elif dead_letter == "f":
                self.ledger.fail(run, handed[run], "Boom", backoff_seconds=1)
        self.desk.calls.clear()
        return method.process_id

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def settle(self, process_id: str) -> SettleResult:
        return self.settler.settle(process_id)

    def due_seconds(self, process_id: str) -> float:
        score = self.redis.zscore(f"{self.ledger.stem}:due", f"batch:{process_id}")
        return (score - self.ledger.now_ms()) / 1000


@pytest.fixture
def bench(redis: Redis) -> Bench:
    return Bench(redis)


@pytest.mark.parametrize("number", [1, 49, 50, 130])
def test_when_all_succeeded_one_call_settles(bench: Bench, number: int) -> None:
    pid = bench.batch("s" * number)
    assert bench.settle(pid) == SettleResult("closed", acknowledged=number)
    assert bench.desk.methods() == ["clear"]
    assert bench.desk.rows() == {}
    assert bench.settle(pid) == SettleResult("gone")
    assert bench.ledger.counters()["events_acknowledged"] == number


def test_nothing_succeeded_clears_nothing(bench: Bench) -> None:
    pid = bench.batch("uuu")
    assert bench.settle(pid) == SettleResult("open", kept=3)
    assert bench.desk.methods() == []
    assert bench.due_seconds(pid) > TIMERS.settle_due_seconds - 5


def test_what_is_finished_settles_before_the_rest(bench: Bench) -> None:
    pid = bench.batch("sus")
    assert bench.settle(pid) == SettleResult("open", acknowledged=2, kept=1)
    assert bench.desk.methods() == ["clear"]
    assert list(bench.desk.rows()) == [2]
    assert list(bench.ledger.events(pid)) == [2]


def test_a_failure_is_reported_once_it_is_old_enough_and_closed_once_it_is_seen_gone(bench: Bench) -> None:
    pid = bench.batch("sf")
    assert bench.settle(pid) == SettleResult("open", acknowledged=1, kept=1)
    assert "error" not in bench.desk.methods()
    assert 0 < bench.due_seconds(pid) <= TIMERS.nack_age_seconds
    bench.later(OLD)
    bench.desk.calls.clear()
    assert bench.settle(pid) == SettleResult("open", nacked=1)
    assert bench.desk.methods() == ["list", "list", "error"]
    assert [(row.nacked, row.process_id) for row in bench.desk.rows().values()] == [(True, "")]
    assert bench.due_seconds(pid) <= TIMERS.sweep_seconds
    assert bench.settle(pid).state == "closed"
    assert bench.ledger.counters()["events_nacked"] == 1


def test_a_failure_with_a_newer_record_is_superseded_at_once(bench: Bench) -> None:
    pid = bench.batch("f")
    newer = bench.desk.change("1")
    assert bench.settle(pid) == SettleResult("closed", acknowledged=1)
    assert bench.desk.methods() == ["list", "list", "clear"]
    assert list(bench.desk.rows()) == [newer]
    assert bench.ledger.counters()["events_superseded"] == 1
    assert bench.fencing.in_doubt_until_ms([bench.desk.rows()[newer].message_id])


def test_a_newer_record_in_another_batch_supersedes_as_well(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.desk.change("1")
    other = bench.reserved("u")
    bench.later(OLD)
    assert bench.settle(pid) == SettleResult("closed", acknowledged=1)
    assert [row.process_id for row in bench.desk.rows().values()] == [other]


def test_the_newer_one_does_not_report_within_the_in_doubt_period_of_the_older(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.desk.change("1")
    bench.settle(pid)
    bench.later(2)
    other = bench.reserved("f")
    bench.later(OLD)
    assert bench.settle(other) == SettleResult("open", kept=1)
    assert "error" not in bench.desk.methods()
    bench.later(TIMERS.in_doubt_seconds)
    assert bench.settle(other).nacked == 1


def test_a_lost_answer_of_clear_is_made_up_for(bench: Bench) -> None:
    pid = bench.batch("ss")
    bench.desk.lose.append("event.offline.clear")
    with pytest.raises(UnknownAnswer):
        bench.settle(pid)
    bench.desk.change("1")
    assert bench.due_seconds(pid) > 0
    assert bench.settle(pid) == SettleResult("closed", acknowledged=2)
    assert len(bench.desk.rows()) == 1, "the change after the lost answer was destroyed"


def test_a_lost_answer_of_error_destroys_nothing_and_settles_later(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.lose.append("event.offline.error")
    with pytest.raises(UnknownAnswer):
        bench.settle(pid)
    # the record is nacked and free; somebody takes it up again, and the object changes once more
    record = bench.desk.rows()[1]
    assert (record.nacked, record.process_id) == (True, "")
    reserve_nacked(bench.queue, 1)
    newer = bench.desk.change("1")
    bench.desk.calls.clear()
    assert bench.settle(pid).state == "closed"
    assert bench.desk.methods() == ["list"]
    assert newer in bench.desk.rows()
    assert list(bench.desk.kinds("deleted_by_error")) == []


def test_an_error_that_was_never_executed_is_sent_again_after_the_in_doubt_period_only(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.refuse["event.offline.error"] = refusal(UnknownAnswer, "event.offline.error")
    with pytest.raises(UnknownAnswer):
        bench.settle(pid)
    assert bench.settle(pid) == SettleResult("open", kept=1)
    bench.later(TIMERS.in_doubt_seconds - 10)
    assert bench.settle(pid) == SettleResult("open", kept=1)
    assert bench.desk.methods().count("error") == 1
    assert bench.due_seconds(pid) <= 10
    bench.later(11)
    assert bench.settle(pid).nacked == 1


def test_an_error_executed_late_meets_no_newer_record_that_was_cleared(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.refuse["event.offline.error"] = refusal(UnknownAnswer, "event.offline.error")
    with pytest.raises(UnknownAnswer):
        bench.settle(pid)
    # the object changed meanwhile: superseded, but not cleared while the call may still be executed
    newer = bench.desk.change("1")
    assert bench.settle(pid) == SettleResult("open", kept=1)
    assert set(bench.desk.rows()) == {1, newer}


@pytest.mark.parametrize("moment", ["event.offline.list", "event.offline.error"])
def test_a_newer_record_is_looked_for_right_before_the_report(bench: Bench, moment: str) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.before = lambda method: (
        bench.desk.change("1") if method == moment and len(bench.desk.rows()) < 2 else None
    )
    reply = bench.settle(pid)
    if moment == "event.offline.list":
        assert (reply.nacked, reply.acknowledged) == (0, 1)
        assert list(bench.desk.kinds("deleted_by_error")) == []
    else:
        # a window that only the portal could close: the newer record is gone, the nacked one stays and runs again
        assert reply.nacked == 1
        assert [row.nacked for row in bench.desk.rows().values()] == [True]


def test_a_lost_lease_sends_no_report(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    lists = iter(range(5))

    def slow(method: str) -> None:
        if method == "event.offline.list" and next(lists) == 1:
            bench.later(TIMERS.settle_lease_seconds + 1)
            bench.ledger.begin_settle(pid)

    bench.desk.before = slow
    assert bench.settle(pid) == SettleResult("lost", nacked=0)
    assert "error" not in bench.desk.methods()
    assert not bench.desk.rows()[1].nacked


@pytest.mark.parametrize("superseded", [True, False])
def test_a_lost_lease_clears_nothing(bench: Bench, superseded: bool) -> None:
    pid = bench.batch("fs")
    if superseded:
        bench.desk.change("1")

    def slow(method: str) -> None:
        bench.later(TIMERS.settle_lease_seconds + 1)
        bench.ledger.begin_settle(pid)
        bench.desk.before = lambda _: None

    bench.desk.before = slow
    assert bench.settle(pid).state == "lost"
    assert "clear" not in bench.desk.methods()


def test_an_old_look_is_not_reported_on(redis: Redis) -> None:
    bench = Bench(redis, replace(TIMERS, settle_lease_seconds=4.0))
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.before = lambda method: time.sleep(1.2)
    assert bench.settle(pid).nacked == 0
    assert bench.desk.methods() == ["list", "list"]
    assert bench.fencing.in_doubt_until_ms([bench.desk.rows()[1].message_id]) == {}
    bench.later(10)
    bench.desk.before = lambda method: None
    assert bench.settle(pid).nacked == 1


def test_a_whole_batch_of_failures_ends_in_a_few_calls(bench: Bench) -> None:
    number = 50
    pid = bench.batch("f" * number)
    bench.later(OLD)
    assert bench.settle(pid) == SettleResult("open", nacked=number)
    # a list of fifty fills a page, so that the next one must be asked for
    assert bench.desk.methods() == ["list", "list", "list", "list", "error"]
    assert bench.settle(pid).state == "closed"
    assert bench.desk.methods()[5:] == ["list"]
    assert bench.ledger.open_batches() == {}
    assert all(row.nacked for row in bench.desk.rows().values())


def test_more_failures_than_one_look_can_tell_of(bench: Bench) -> None:
    number = 2 * QUEUE_PAGE + 5
    pid = bench.batch("f" * number)
    bench.later(OLD)
    assert bench.settle(pid).nacked == number
    assert bench.desk.methods().count("error") == 1


def test_a_slow_portal_is_asked_about_fewer_records_in_a_turn(redis: Redis) -> None:
    bench = Bench(redis, replace(TIMERS, settle_lease_seconds=8.0))
    number = 4 * QUEUE_PAGE
    pid = bench.batch("f" * number)
    bench.later(OLD)
    bench.desk.before = lambda method: time.sleep(0.35)
    # together the looks take longer than one of them is valid
    assert 0 < bench.settle(pid).nacked < number
    assert bench.due_seconds(pid) <= TIMERS.sweep_seconds


def test_a_failure_that_the_look_for_newer_ones_does_not_show_is_not_reported(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    lists = iter(range(5))

    def nacked_between_the_looks(method: str) -> None:
        if next(lists) == 1:
            bench.desk.queue.mark(bench.desk.now, bench.desk.rows()[1])

    bench.desk.before = nacked_between_the_looks
    assert bench.settle(pid) == SettleResult("open", kept=1)
    assert "error" not in bench.desk.methods()


def test_a_record_moved_by_another_reserving_call_is_not_reported(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.queue.move(bench.desk.now, bench.desk.rows().values(), "f" * 32)
    assert bench.settle(pid) == SettleResult("closed")
    assert bench.desk.methods() == ["list"]
    assert [row.process_id for row in bench.desk.rows().values()] == ["f" * 32]


def test_a_nacked_record_is_never_reported_again(bench: Bench) -> None:
    pid = bench.batch("f", nacked=True)
    newer = bench.desk.change("1")
    bench.later(TIMERS.in_doubt_seconds + OLD)
    assert bench.settle(pid) == SettleResult("open", kept=1)
    assert "error" not in bench.desk.methods()
    assert newer in bench.desk.rows()


def test_an_adopted_batch_waits_out_a_in_doubt_period_even_to_clear(bench: Bench) -> None:
    pid = bench.batch("s")
    bench.fencing.open_in_doubt_window({bench.desk.rows()[1].message_id}, None)
    assert bench.settle(pid) == SettleResult("open", kept=1)
    assert "clear" not in bench.desk.methods()
    bench.later(TIMERS.in_doubt_seconds + 1)
    assert bench.settle(pid) == SettleResult("closed", acknowledged=1)


def test_two_settlers_do_not_meet(bench: Bench) -> None:
    pid = bench.batch("s")
    assert isinstance(bench.ledger.begin_settle(pid), SettleLease)
    assert bench.settle(pid) == SettleResult("busy")
    assert bench.desk.methods() == []


def test_a_damaged_batch_is_left_to_adoption(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    pid = bench.batch("sf")
    for key in bench.redis.scan_iter(f"{bench.ledger.stem}:run:1@*"):
        bench.redis.delete(key)
    assert bench.settle(pid) == SettleResult("damaged")
    assert [vars(one)["portal"] for one in caplog.records if one.levelname == "ERROR"] == [PORTAL]
    assert bench.desk.methods() == []
    assert bench.ledger.open_batches() == {}
    assert len(bench.desk.rows()) == 2


def test_a_batch_whose_records_were_lost_touches_nothing_on_the_portal(bench: Bench) -> None:
    pid = bench.batch("sf")
    bench.redis.delete(f"{bench.ledger.stem}:batch:{pid}:records")
    bench.settle(pid)
    assert bench.desk.methods() == []
    assert len(bench.desk.rows()) == 2


@pytest.mark.parametrize(
    "error",
    [refusal(QueryLimitExceeded, "event.offline.clear"), RateLimited(PORTAL, 30.0), refusal(PortalError, "x")],
)
def test_after_a_refusal_the_lease_is_free_and_the_batch_comes_again(bench: Bench, error: Any) -> None:
    pid = bench.batch("s")
    bench.desk.refuse["event.offline.clear"] = error
    with pytest.raises(type(error)):
        bench.settle(pid)
    assert 0 < bench.due_seconds(pid) <= TIMERS.settle_due_seconds
    assert bench.settle(pid) == SettleResult("closed", acknowledged=1)


def test_a_record_that_cannot_be_read_is_reported_not_taken_for_gone(bench: Bench) -> None:
    pid = bench.batch("f")
    bench.later(OLD)
    bench.desk.distort = lambda row: {**row, "EVENT_NAME": None, "TIMESTAMP_X": "never"}
    assert bench.settle(pid).nacked == 1
    assert bench.desk.rows()[1].nacked
