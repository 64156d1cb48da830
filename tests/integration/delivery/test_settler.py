"""Settling against a portal's queue: one call when all is well, and nothing destroyed when it is not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from b24offline.delivery.settler import SettleResult
from b24offline.errors import PortalError, QueryLimitExceeded, RateLimited, UnknownAnswer
from b24offline.ledger import SettleLease, error_lane
from b24offline.ledger.nacked_records import known_failures
from b24offline.rest import QUEUE_PAGE
from tests.support.core_events import PIPELINE, PORTAL, TIMERS, reserve_nacked
from tests.support.deployment import UPDATE, Deployment
from tests.support.portal_desk import refusal

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

OLD = TIMERS.nack_age_seconds + 1


@pytest.fixture
def acme(redis: Redis, tmp_path: Path) -> Deployment:
    return Deployment(redis, tmp_path)


@pytest.mark.parametrize("number", [1, 49, 50, 130])
def test_when_all_succeeded_one_call_settles(acme: Deployment, number: int) -> None:
    pid = acme.batch("s" * number)
    assert acme.settler.settle(pid) == SettleResult("closed", acknowledged=number)
    assert acme.desk.methods() == ["clear"]
    assert acme.desk.rows() == {}
    assert acme.settler.settle(pid) == SettleResult("gone")
    assert acme.ledger.counters()["events_acknowledged"] == number


def test_nothing_succeeded_clears_nothing(acme: Deployment) -> None:
    pid = acme.batch("uuu")
    assert acme.settler.settle(pid) == SettleResult("open", kept=3)
    assert acme.desk.methods() == []
    assert acme.due_seconds(f"batch:{pid}") > TIMERS.settle_due_seconds - 5


def test_what_is_finished_settles_before_the_rest(acme: Deployment) -> None:
    pid = acme.batch("sus")
    assert acme.settler.settle(pid) == SettleResult("open", acknowledged=2, kept=1)
    assert acme.desk.methods() == ["clear"]
    assert list(acme.desk.rows()) == [2]
    assert list(acme.ledger.events(pid)) == [2]


def test_a_failure_is_reported_once_it_is_old_enough_and_closed_once_it_is_seen_gone(acme: Deployment) -> None:
    pid = acme.batch("sf")
    assert acme.settler.settle(pid) == SettleResult("open", acknowledged=1, kept=1)
    assert "error" not in acme.desk.methods()
    assert 0 < acme.due_seconds(f"batch:{pid}") <= TIMERS.nack_age_seconds
    acme.later(OLD)
    acme.desk.calls.clear()
    assert acme.settler.settle(pid) == SettleResult("open", nacked=1)
    assert acme.desk.methods() == ["list", "list", "error"]
    assert [(row.nacked, row.process_id) for row in acme.desk.rows().values()] == [(True, "")]
    assert acme.due_seconds(f"batch:{pid}") <= TIMERS.sweep_seconds
    assert acme.settler.settle(pid).state == "closed"
    assert acme.ledger.counters()["events_nacked"] == 1


def test_a_failure_with_a_newer_record_is_superseded_at_once(acme: Deployment) -> None:
    pid = acme.batch("f")
    newer = acme.desk.change("1")
    assert acme.settler.settle(pid) == SettleResult("closed", acknowledged=1)
    assert acme.desk.methods() == ["list", "list", "clear"]
    assert list(acme.desk.rows()) == [newer]
    assert acme.ledger.counters()["events_superseded"] == 1
    assert acme.fencing.in_doubt_until_ms([acme.desk.rows()[newer].message_id])


def test_a_newer_record_in_another_batch_supersedes_as_well(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.desk.change("1")
    other = acme.reserved("u")
    acme.later(OLD)
    assert acme.settler.settle(pid) == SettleResult("closed", acknowledged=1)
    assert [row.process_id for row in acme.desk.rows().values()] == [other]


def test_the_newer_one_does_not_report_within_the_in_doubt_period_of_the_older(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.desk.change("1")
    acme.settler.settle(pid)
    acme.later(2)
    other = acme.reserved("f")
    acme.later(OLD)
    assert acme.settler.settle(other) == SettleResult("open", kept=1)
    assert "error" not in acme.desk.methods()
    acme.later(TIMERS.in_doubt_seconds)
    assert acme.settler.settle(other).nacked == 1


def test_a_lost_answer_of_clear_is_made_up_for(acme: Deployment) -> None:
    pid = acme.batch("ss")
    acme.desk.lose.append("event.offline.clear")
    with pytest.raises(UnknownAnswer):
        acme.settler.settle(pid)
    acme.desk.change("1")
    assert acme.due_seconds(f"batch:{pid}") > 0
    assert acme.settler.settle(pid) == SettleResult("closed", acknowledged=2)
    assert len(acme.desk.rows()) == 1, "the change after the lost answer was destroyed"


def test_a_lost_answer_of_error_destroys_nothing_and_settles_later(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.lose.append("event.offline.error")
    with pytest.raises(UnknownAnswer):
        acme.settler.settle(pid)
    # the record is nacked and free; somebody takes it up again, and the object changes once more
    record = acme.desk.rows()[1]
    assert (record.nacked, record.process_id) == (True, "")
    reserve_nacked(acme.queue, 1)
    newer = acme.desk.change("1")
    acme.desk.calls.clear()
    assert acme.settler.settle(pid).state == "closed"
    assert acme.desk.methods() == ["list"]
    assert newer in acme.desk.rows()
    assert list(acme.desk.kinds("deleted_by_error")) == []


def test_an_error_that_was_never_executed_is_sent_again_after_the_in_doubt_period_only(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.refuse["event.offline.error"] = refusal(UnknownAnswer, "event.offline.error")
    with pytest.raises(UnknownAnswer):
        acme.settler.settle(pid)
    assert acme.settler.settle(pid) == SettleResult("open", kept=1)
    acme.later(TIMERS.in_doubt_seconds - 10)
    assert acme.settler.settle(pid) == SettleResult("open", kept=1)
    assert acme.desk.methods().count("error") == 1
    assert acme.due_seconds(f"batch:{pid}") <= 10
    acme.later(11)
    assert acme.settler.settle(pid).nacked == 1


def test_an_error_executed_late_meets_no_newer_record_that_was_cleared(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.refuse["event.offline.error"] = refusal(UnknownAnswer, "event.offline.error")
    with pytest.raises(UnknownAnswer):
        acme.settler.settle(pid)
    # the object changed meanwhile: superseded, but not cleared while the call may still be executed
    newer = acme.desk.change("1")
    assert acme.settler.settle(pid) == SettleResult("open", kept=1)
    assert set(acme.desk.rows()) == {1, newer}


@pytest.mark.parametrize("moment", ["event.offline.list", "event.offline.error"])
def test_a_newer_record_is_looked_for_right_before_the_report(acme: Deployment, moment: str) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.before = lambda method: acme.desk.change("1") if method == moment and len(acme.desk.rows()) < 2 else None
    reply = acme.settler.settle(pid)
    if moment == "event.offline.list":
        assert (reply.nacked, reply.acknowledged) == (0, 1)
        assert list(acme.desk.kinds("deleted_by_error")) == []
    else:
        # a window that only the portal could close: the newer record is gone, the nacked one stays and runs again
        assert reply.nacked == 1
        assert [row.nacked for row in acme.desk.rows().values()] == [True]


def test_a_whole_batch_of_failures_ends_in_a_few_calls(acme: Deployment) -> None:
    number = 50
    pid = acme.batch("f" * number)
    acme.later(OLD)
    assert acme.settler.settle(pid) == SettleResult("open", nacked=number)
    # a list of fifty fills a page, so that the next one must be asked for
    assert acme.desk.methods() == ["list", "list", "list", "list", "error"]
    assert acme.settler.settle(pid).state == "closed"
    assert acme.desk.methods()[5:] == ["list"]
    assert acme.ledger.open_batches() == {}
    assert all(row.nacked for row in acme.desk.rows().values())


def test_more_failures_than_one_look_can_tell_of(acme: Deployment) -> None:
    number = 2 * QUEUE_PAGE + 5
    pid = acme.batch("f" * number)
    acme.later(OLD)
    assert acme.settler.settle(pid).nacked == number
    assert acme.desk.methods().count("error") == 1


def test_a_slow_portal_is_asked_about_fewer_records_in_a_turn(redis: Redis, tmp_path: Path) -> None:
    acme = Deployment(redis, tmp_path, timers=replace(TIMERS, settle_lease_seconds=8.0))
    number = 4 * QUEUE_PAGE
    pid = acme.batch("f" * number)
    acme.later(OLD)
    acme.desk.before = lambda method: time.sleep(0.35)
    # together the looks take longer than one of them is valid
    assert 0 < acme.settler.settle(pid).nacked < number
    assert acme.due_seconds(f"batch:{pid}") <= TIMERS.sweep_seconds


def test_a_failure_that_the_look_for_newer_ones_does_not_show_is_not_reported(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    lists = iter(range(5))

    def nacked_between_the_looks(method: str) -> None:
        if next(lists) == 1:
            acme.desk.queue.mark(acme.desk.now, acme.desk.rows()[1])

    acme.desk.before = nacked_between_the_looks
    assert acme.settler.settle(pid) == SettleResult("open", kept=1)
    assert "error" not in acme.desk.methods()


def test_a_record_moved_by_another_reserving_call_is_not_reported(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.queue.move(acme.desk.now, acme.desk.rows().values(), "f" * 32)
    assert acme.settler.settle(pid) == SettleResult("closed")
    assert acme.desk.methods() == ["list"]
    assert [row.process_id for row in acme.desk.rows().values()] == ["f" * 32]


def test_a_nacked_record_is_never_reported_again(acme: Deployment) -> None:
    pid = acme.batch("f", nacked=True)
    newer = acme.desk.change("1")
    acme.later(TIMERS.in_doubt_seconds + OLD)
    assert acme.settler.settle(pid) == SettleResult("open", kept=1)
    assert "error" not in acme.desk.methods()
    assert newer in acme.desk.rows()


def test_two_settlers_do_not_meet(acme: Deployment) -> None:
    pid = acme.batch("s")
    assert isinstance(acme.ledger.begin_settle(pid), SettleLease)
    assert acme.settler.settle(pid) == SettleResult("busy")
    assert acme.desk.methods() == []


def test_a_damaged_batch_is_left_to_adoption(acme: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    pid = acme.batch("sf")
    for key in acme.redis.scan_iter(f"{acme.ledger.stem}:run:1@*"):
        acme.redis.delete(key)
    assert acme.settler.settle(pid) == SettleResult("damaged")
    assert [vars(one)["portal"] for one in caplog.records if one.levelname == "ERROR"] == [PORTAL]
    assert acme.desk.methods() == []
    assert acme.ledger.open_batches() == {}
    assert len(acme.desk.rows()) == 2


def test_a_batch_whose_records_were_lost_touches_nothing_on_the_portal(acme: Deployment) -> None:
    pid = acme.batch("sf")
    acme.redis.delete(f"{acme.ledger.stem}:batch:{pid}:records")
    acme.settler.settle(pid)
    assert acme.desk.methods() == []
    assert len(acme.desk.rows()) == 2


@pytest.mark.parametrize(
    "error",
    [refusal(QueryLimitExceeded, "event.offline.clear"), RateLimited(PORTAL, 30.0), refusal(PortalError, "x")],
)
def test_after_a_refusal_the_lease_is_free_and_the_batch_comes_again(acme: Deployment, error: Any) -> None:
    pid = acme.batch("s")
    acme.desk.refuse["event.offline.clear"] = error
    with pytest.raises(type(error)):
        acme.settler.settle(pid)
    assert 0 < acme.due_seconds(f"batch:{pid}") <= TIMERS.settle_due_seconds
    assert acme.settler.settle(pid) == SettleResult("closed", acknowledged=1)


def test_a_record_that_cannot_be_read_is_reported_not_taken_for_gone(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.distort = lambda row: {**row, "EVENT_NAME": None, "TIMESTAMP_X": "never"}
    assert acme.settler.settle(pid).nacked == 1
    assert acme.desk.rows()[1].nacked


def test_what_was_nacked_is_known_until_it_runs_again(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    assert acme.settler.settle(pid).nacked == 1
    for _ in range(2):  # seen at the first look, taken up at a later one
        assert list(acme.services.redriver.turn(lambda *_: False)) == []
        acme.later(1)
    (nacked,) = [event for event in error_lane(acme.redis, acme.ledger) if event.place == "nacked"]
    assert (nacked.event, nacked.object, nacked.pipeline, nacked.reason) == (UPDATE, "crm_deal 1", PIPELINE, "Boom")
    assert nacked.next_seconds is not None
    acme.later(TIMERS.redrive_backoff_seconds[0] + TIMERS.in_doubt_seconds)
    assert len(list(acme.services.redriver.turn(lambda *_: False))) == 1
    assert [event.place for event in error_lane(acme.redis, acme.ledger)] == ["retrying"]
    assert not acme.redis.exists(f"{acme.ledger.stem}:failures", f"{acme.ledger.stem}:nacked")


def test_a_nacked_record_is_known_though_the_answer_of_error_was_lost(acme: Deployment) -> None:
    """Else nobody would look for it until the portal's nacked records are looked through anyway."""
    pid = acme.batch("f")
    acme.later(OLD)
    acme.desk.lose.append("event.offline.error")
    with pytest.raises(UnknownAnswer):
        acme.settler.settle(pid)
    assert acme.settler.settle(pid).state == "closed"
    assert known_failures(acme.redis, acme.ledger)[1]["pipeline"] == PIPELINE


def test_what_is_known_of_a_record_that_is_nacked_no_more_is_forgotten(acme: Deployment) -> None:
    pid = acme.batch("f")
    acme.later(OLD)
    assert acme.settler.settle(pid).nacked == 1
    assert list(known_failures(acme.redis, acme.ledger)) == [1]
    acme.desk.queue.drop_all(acme.desk.now)
    assert list(acme.services.redriver.turn(lambda *_: False)) == []
    assert known_failures(acme.redis, acme.ledger) == {}
