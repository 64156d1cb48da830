"""The poll lease, the epoch, in-doubt windows and sightings."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from b24offline.ledger import MAX_RETRYING_RECORDS, BatchKind, PollLease, PollRefused, SettleLease
from tests.support.core_events import (
    TIMERS,
    entry_of,
    guard_on,
    ledger_on,
    message_of,
    opened,
    pass_time,
    polled_before,
    record_of,
)

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import Fencing


def lease_of(fencing: Fencing, known: int | None = None, **more: Any) -> PollLease:
    lease = fencing.take_poll_lease(known, **more)
    assert isinstance(lease, PollLease)
    return lease


def refused(fencing: Fencing, known: int | None = None, **more: Any) -> PollRefused:
    lease = fencing.take_poll_lease(known, **more)
    assert isinstance(lease, PollRefused)
    return lease


def test_one_reserving_call_at_a_time(redis: Redis) -> None:
    fencing = guard_on(redis, ledger_on(redis))
    lease = lease_of(fencing)
    reply = refused(fencing, lease.epoch)
    assert reply.reason == "busy"
    assert 0 < reply.wait_seconds <= TIMERS.poll_lease_seconds
    assert reply.epoch is None
    assert fencing.release(lease)
    assert not fencing.release(lease), "a lease was given back twice"
    lease_of(fencing, lease.epoch)


def test_a_lease_that_ran_out_cannot_end_its_successor(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    late = lease_of(fencing)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds - 1)
    assert refused(fencing, late.epoch).reason == "busy"
    pass_time(redis, ledger, 2)
    current = lease_of(fencing, late.epoch)
    assert not fencing.release(late)
    assert refused(fencing, current.epoch).reason == "busy"


def test_a_lease_begins_anew_as_long_as_nobody_else_has_it(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    lease = lease_of(fencing)
    for _ in range(2):
        pass_time(redis, ledger, TIMERS.poll_lease_seconds - 1)
        assert fencing.renew(lease)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds - 1)
    assert refused(fencing, lease.epoch).reason == "busy"
    pass_time(redis, ledger, 2)
    assert fencing.renew(lease), "it ran out, and nobody took it"
    pass_time(redis, ledger, TIMERS.poll_lease_seconds + 1)
    other = lease_of(fencing, lease.epoch)
    assert not fencing.renew(lease), "another one's was taken away"
    assert fencing.release(other)
    assert not fencing.renew(other), "one that was given back"


def test_a_lease_does_not_outlive_the_loss_of_the_ledger(redis: Redis) -> None:
    fencing = guard_on(redis, ledger_on(redis))
    lease = lease_of(fencing)
    redis.flushall()
    assert not fencing.renew(lease)
    assert redis.keys("*") == []


def test_the_epoch_stays_while_the_ledger_lives(redis: Redis) -> None:
    fencing = guard_on(redis, ledger_on(redis))
    first = lease_of(fencing)
    fencing.release(first)
    assert lease_of(fencing, first.epoch).epoch == first.epoch


def test_after_loss_of_the_ledger_no_reserving_call_for_a_while(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    before = lease_of(fencing).epoch
    redis.flushall()
    reply = refused(fencing, before)
    assert reply.reason == "recovering"
    assert reply.epoch not in (None, before)
    assert TIMERS.recovery_seconds - 5 < reply.wait_seconds <= TIMERS.recovery_seconds
    pass_time(redis, ledger, TIMERS.recovery_seconds - 1)
    assert refused(fencing, reply.epoch).reason == "recovering"
    pass_time(redis, ledger, 2)
    assert lease_of(fencing, reply.epoch).epoch == reply.epoch


def test_after_loss_of_the_guard_alone_all_messages_are_in_doubt(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    before = lease_of(fencing).epoch
    opened(ledger, "p1", entry_of(1))
    redis.delete(f"{ledger.stem}:fencing")
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, SettleLease)
    noticed = fencing.in_doubt_until_ms([message_of(1)])[message_of(1)]
    assert TIMERS.all_in_doubt_seconds - 5 < (noticed - ledger.now_ms()) / 1000 <= TIMERS.all_in_doubt_seconds
    pass_time(redis, ledger, 10)
    assert refused(fencing, before).reason == "recovering", "what a settle noted does not hide the loss from a poll"
    assert fencing.in_doubt_until_ms([message_of(1)])[message_of(1)] > noticed - 10_000
    pass_time(redis, ledger, TIMERS.all_in_doubt_seconds + 1)
    ledger.begin_settle("p1")
    assert fencing.in_doubt_until_ms([message_of(1)])[message_of(1)] < ledger.now_ms()


def test_without_a_poll_the_in_doubt_after_loss_of_the_guard_ends(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    opened(ledger, "p1", entry_of(1))
    ledger.begin_settle("p1")
    pass_time(redis, ledger, TIMERS.all_in_doubt_seconds + 1)
    ledger.begin_settle("p1")
    assert fencing.in_doubt_until_ms([message_of(1)])[message_of(1)] < ledger.now_ms()


def test_after_loss_of_the_guard_no_nacked_record_is_due(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    before = lease_of(fencing).epoch
    nacked = [record_of(1)]
    opened(ledger, "p1", entry_of(2))
    assert list(fencing.due_nacked(nacked, 1)) == []
    pass_time(redis, ledger, 2)
    redis.delete(f"{ledger.stem}:fencing")
    refused(fencing, before)
    assert list(fencing.due_nacked(nacked, 1)) == []
    pass_time(redis, ledger, TIMERS.all_in_doubt_seconds + 1)
    assert list(fencing.due_nacked(nacked, 1)) == nacked


def test_another_ledger_than_before_is_a_lost_one(redis: Redis) -> None:
    fencing = guard_on(redis, ledger_on(redis))
    epoch = lease_of(fencing).epoch
    reply = refused(fencing, epoch + 1)
    assert (reply.reason, reply.epoch) == ("recovering", epoch)


def test_a_portal_that_was_never_polled_starts_at_once(redis: Redis) -> None:
    lease_of(guard_on(redis, ledger_on(redis)), None)


def test_too_many_open_batches_refuse_a_poll_but_not_an_adoption(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger, gate=2)
    opened(ledger, "p1", entry_of(1))
    fencing.release(lease_of(fencing))
    opened(ledger, "p2", entry_of(2))
    assert refused(fencing).reason == "full"
    assert refused(fencing).wait_seconds > 0
    lease_of(fencing, gate=False)


def test_each_lane_counts_its_own_batches(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger, gate=1)
    opened(ledger, "p1", entry_of(1), lane="deals")
    assert refused(fencing, lane="deals").reason == "full"
    fencing.release(lease_of(fencing))
    opened(ledger, "p2", entry_of(2))
    assert refused(fencing).reason == "full"
    ledger.forget("p1")
    lease_of(fencing, lane="deals")


def test_retrying_batches_have_a_larger_gate_of_their_own(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger, gate=1)
    for number in range(1, MAX_RETRYING_RECORDS + 1):
        fencing.release(lease_of(fencing, kind=BatchKind.RETRYING))
        opened(ledger, f"p{number}", entry_of(number), kind=BatchKind.RETRYING)
    assert refused(fencing, kind=BatchKind.RETRYING).reason == "full"
    lease_of(fencing)


def settling_of(redis: Redis, process_id: str = "p1") -> SettleLease:
    ledger = polled_before(redis, ledger_on(redis))
    opened(ledger, process_id, entry_of(1))
    settling = ledger.begin_settle(process_id)
    assert isinstance(settling, SettleLease)
    return settling


def test_a_in_doubt_period_is_noted_under_the_settle_lease(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    one, other = message_of(1), message_of(2)
    left = fencing.open_in_doubt_window([one], settling_of(redis))
    assert TIMERS.settle_lease_seconds - 5 < left <= TIMERS.settle_lease_seconds
    until = fencing.in_doubt_until_ms([one, other])
    assert set(until) == {one}
    assert TIMERS.in_doubt_seconds - 5 < (until[one] - ledger.now_ms()) / 1000 <= TIMERS.in_doubt_seconds
    assert fencing.in_doubt_until_ms([]) == {}


def test_without_the_settle_lease_nothing_is_noted(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    settling = settling_of(redis)
    pass_time(redis, ledger, TIMERS.settle_lease_seconds + 1)
    assert fencing.open_in_doubt_window([message_of(1)], settling) == 0.0
    assert isinstance(ledger.begin_settle("p1"), SettleLease)
    assert fencing.open_in_doubt_window([message_of(1)], settling) == 0.0
    ledger.forget("p1")
    assert fencing.open_in_doubt_window([message_of(1)], settling) == 0.0
    assert fencing.in_doubt_until_ms([message_of(1)]) == {}


def test_adoption_notes_in_doubt_periods_without_a_settle_lease(redis: Redis) -> None:
    fencing = guard_on(redis, ledger_on(redis))
    assert fencing.open_in_doubt_window({message_of(1), message_of(2)}, None) > 0
    assert set(fencing.in_doubt_until_ms([message_of(1), message_of(2)])) == {message_of(1), message_of(2)}


def test_past_in_doubt_periods_are_dropped_and_running_ones_kept(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    lease = lease_of(fencing)
    fencing.open_in_doubt_window([message_of(1)], None)
    pass_time(redis, ledger, TIMERS.in_doubt_seconds - 10)
    fencing.open_in_doubt_window([message_of(2)], None)
    pass_time(redis, ledger, 11)
    fencing.open_in_doubt_window([message_of(3)], None)
    assert set(fencing.in_doubt_until_ms([message_of(i) for i in (1, 2, 3)])) == {message_of(2), message_of(3)}
    assert redis.hget(f"{ledger.stem}:fencing", "epoch") == str(lease.epoch)


def test_in_doubt_periods_epoch_and_lease_vanish_together(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    epoch = lease_of(fencing).epoch
    fencing.open_in_doubt_window([message_of(1)], None)
    assert {key.removeprefix(ledger.stem) for key in redis.scan_iter(f"{ledger.stem}*")} == {":fencing", ":look"}
    redis.delete(f"{ledger.stem}:fencing")
    assert refused(fencing, epoch).reason == "recovering"


def test_nacked_records_are_due_after_their_wait_oldest_first(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    rows = [record_of(i, ERROR="1") for i in (11, 9, 100)]
    assert list(fencing.due_nacked(rows, 300)) == []
    pass_time(redis, ledger, 299)
    assert list(fencing.due_nacked(rows, 300)) == []
    pass_time(redis, ledger, 2)
    assert [record.record_id for record in fencing.due_nacked(rows, 300)] == [9, 11, 100]


def test_a_nacked_record_that_keeps_changing_does_not_wait_for_ever(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    list(fencing.due_nacked([record_of(1, ERROR="1")], 300))
    pass_time(redis, ledger, 301)
    moved = record_of(1, ERROR="1", TIMESTAMP_X="2026-04-03T08:50:00+02:00")
    assert list(fencing.due_nacked([moved], 300)) == [moved]
    assert list(fencing.due_nacked([], 300)) == []
    assert list(fencing.due_nacked([moved], 300)) == [], "a sighting was kept though it was over"


def test_a_nacked_record_in_its_in_doubt_period_is_not_due(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    rows = [record_of(1, ERROR="1"), record_of(2, ERROR="1")]
    list(fencing.due_nacked(rows, 10))
    pass_time(redis, ledger, 11)
    fencing.open_in_doubt_window([message_of(1)], None)
    assert [record.record_id for record in fencing.due_nacked(rows, 10)] == [2]
    pass_time(redis, ledger, TIMERS.in_doubt_seconds + 1)
    assert [record.record_id for record in fencing.due_nacked(rows, 10)] == [1, 2]


def test_the_next_due_ones_are_found_without_reading_all(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    rows = [record_of(i, ERROR="1") for i in range(1, 181)]
    assert list(fencing.due_nacked(rows, 300)) == []
    pass_time(redis, ledger, 301)
    left = iter(rows)
    taken = [record.record_id for record in islice(fencing.due_nacked(left, 300), 20)]
    assert taken == list(range(1, 21))
    assert next(left).record_id == 51, "more than the first page was read"
    assert fencing.nacked_count() == 180, "what was not looked at was forgotten"


def test_a_look_at_some_forgets_only_what_it_would_have_seen(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    rows = [record_of(i, ERROR="1") for i in range(1, 181)]
    list(fencing.due_nacked(rows, 300))
    pass_time(redis, ledger, 301)
    left = [row for row in rows if row.record_id not in {2, 60, 180}]
    next(fencing.due_nacked(left, 300))
    assert fencing.nacked_count() == 179, "of the first page"
    assert [row.record_id for row in fencing.due_nacked(left, 300)] == [row.record_id for row in left]
    assert fencing.nacked_count() == 177
    assert list(fencing.due_nacked([], 300)) == []
    assert fencing.nacked_count() == 0


def test_one_that_is_new_to_a_look_at_some_waits_from_then_on(redis: Redis) -> None:
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger)
    assert list(fencing.due_nacked([record_of(1, ERROR="1")], 300)) == []
    pass_time(redis, ledger, 301)
    rows = [record_of(i, ERROR="1") for i in (1, 2)]
    assert [row.record_id for row in fencing.due_nacked(rows, 300)] == [1]
