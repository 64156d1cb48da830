"""The poll lease, the generation, quiet periods and sightings."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from core_events import (
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

from b24offline.ledger import BatchKind, PollLease, PollRefused, Settling
from b24offline.ledger.fencing import HELD_RECORDS

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import PortalGuard

pytestmark = pytest.mark.unit


def lease_of(guard: PortalGuard, known: int | None = None, **more: Any) -> PollLease:
    lease = guard.take_poll_lease(known, **more)
    assert isinstance(lease, PollLease)
    return lease


def refused(guard: PortalGuard, known: int | None = None, **more: Any) -> PollRefused:
    lease = guard.take_poll_lease(known, **more)
    assert isinstance(lease, PollRefused)
    return lease


def test_one_reserving_call_at_a_time(redis: Redis) -> None:
    guard = guard_on(redis, ledger_on(redis))
    lease = lease_of(guard)
    told = refused(guard, lease.generation)
    assert told.reason == "busy"
    assert 0 < told.wait_seconds <= TIMERS.poll_lease_seconds
    assert told.generation is None
    assert guard.give_back(lease)
    assert not guard.give_back(lease), "a lease was given back twice"
    lease_of(guard, lease.generation)


def test_a_lease_that_ran_out_cannot_end_its_successor(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    late = lease_of(guard)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds - 1)
    assert refused(guard, late.generation).reason == "busy"
    pass_time(redis, ledger, 2)
    current = lease_of(guard, late.generation)
    assert not guard.give_back(late)
    assert refused(guard, current.generation).reason == "busy"


def test_a_lease_begins_anew_as_long_as_nobody_else_has_it(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    lease = lease_of(guard)
    for _ in range(2):
        pass_time(redis, ledger, TIMERS.poll_lease_seconds - 1)
        assert guard.renew(lease)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds - 1)
    assert refused(guard, lease.generation).reason == "busy"
    pass_time(redis, ledger, 2)
    assert guard.renew(lease), "it ran out, and nobody took it"
    pass_time(redis, ledger, TIMERS.poll_lease_seconds + 1)
    other = lease_of(guard, lease.generation)
    assert not guard.renew(lease), "another one's was taken away"
    assert guard.give_back(other)
    assert not guard.renew(other), "one that was given back"


def test_a_lease_does_not_outlive_the_loss_of_the_ledger(redis: Redis) -> None:
    guard = guard_on(redis, ledger_on(redis))
    lease = lease_of(guard)
    redis.flushall()
    assert not guard.renew(lease)
    assert redis.keys("*") == []


def test_the_generation_stays_while_the_ledger_lives(redis: Redis) -> None:
    guard = guard_on(redis, ledger_on(redis))
    first = lease_of(guard)
    guard.give_back(first)
    assert lease_of(guard, first.generation).generation == first.generation


def test_after_loss_of_the_ledger_no_reserving_call_for_a_while(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    before = lease_of(guard).generation
    redis.flushall()
    told = refused(guard, before)
    assert told.reason == "recovering"
    assert told.generation not in (None, before)
    assert TIMERS.recovery_seconds - 5 < told.wait_seconds <= TIMERS.recovery_seconds
    pass_time(redis, ledger, TIMERS.recovery_seconds - 1)
    assert refused(guard, told.generation).reason == "recovering"
    pass_time(redis, ledger, 2)
    assert lease_of(guard, told.generation).generation == told.generation


def test_after_loss_of_the_guard_alone_all_messages_are_quiet(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    before = lease_of(guard).generation
    opened(ledger, "p1", entry_of(1))
    redis.delete(f"{ledger.stem}:guard")
    settling = ledger.begin_settle("p1")
    assert isinstance(settling, Settling)
    noticed = guard.quiet_until_ms([message_of(1)])[message_of(1)]
    assert TIMERS.quiet_seconds - 5 < (noticed - ledger.now_ms()) / 1000 <= TIMERS.quiet_seconds
    pass_time(redis, ledger, 10)
    assert refused(guard, before).reason == "recovering", "what a settle noted does not hide the loss from a poll"
    assert guard.quiet_until_ms([message_of(1)])[message_of(1)] > noticed - 10_000
    pass_time(redis, ledger, TIMERS.quiet_seconds + 1)
    ledger.begin_settle("p1")
    assert guard.quiet_until_ms([message_of(1)])[message_of(1)] < ledger.now_ms()


def test_without_a_poll_the_quiet_after_loss_of_the_guard_ends(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    opened(ledger, "p1", entry_of(1))
    ledger.begin_settle("p1")
    pass_time(redis, ledger, TIMERS.quiet_seconds + 1)
    ledger.begin_settle("p1")
    assert guard.quiet_until_ms([message_of(1)])[message_of(1)] < ledger.now_ms()


def test_after_loss_of_the_guard_no_marked_record_is_due(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    before = lease_of(guard).generation
    marked = [record_of(1)]
    opened(ledger, "p1", entry_of(2))
    assert list(guard.due_marked(marked, 1)) == []
    pass_time(redis, ledger, 2)
    redis.delete(f"{ledger.stem}:guard")
    refused(guard, before)
    assert list(guard.due_marked(marked, 1)) == []
    pass_time(redis, ledger, TIMERS.quiet_seconds + 1)
    assert list(guard.due_marked(marked, 1)) == marked


def test_another_ledger_than_before_is_a_lost_one(redis: Redis) -> None:
    guard = guard_on(redis, ledger_on(redis))
    generation = lease_of(guard).generation
    told = refused(guard, generation + 1)
    assert (told.reason, told.generation) == ("recovering", generation)


def test_a_portal_that_was_never_polled_starts_at_once(redis: Redis) -> None:
    lease_of(guard_on(redis, ledger_on(redis)), None)


def test_too_many_open_batches_refuse_a_poll_but_not_an_adoption(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger, gate=2)
    opened(ledger, "p1", entry_of(1))
    guard.give_back(lease_of(guard))
    opened(ledger, "p2", entry_of(2))
    assert refused(guard).reason == "full"
    assert refused(guard).wait_seconds > 0
    lease_of(guard, gate=False)


def test_each_lane_counts_its_own_batches(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger, gate=1)
    opened(ledger, "p1", entry_of(1), lane="deals")
    assert refused(guard, lane="deals").reason == "full"
    guard.give_back(lease_of(guard))
    opened(ledger, "p2", entry_of(2))
    assert refused(guard).reason == "full"
    ledger.forget("p1")
    lease_of(guard, lane="deals")


def test_retrying_batches_have_a_larger_gate_of_their_own(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger, gate=1)
    for number in range(1, HELD_RECORDS + 1):
        guard.give_back(lease_of(guard, kind=BatchKind.RETRYING))
        opened(ledger, f"p{number}", entry_of(number), kind=BatchKind.RETRYING)
    assert refused(guard, kind=BatchKind.RETRYING).reason == "full"
    lease_of(guard)


def settling_of(redis: Redis, process_id: str = "p1") -> Settling:
    ledger = polled_before(redis, ledger_on(redis))
    opened(ledger, process_id, entry_of(1))
    settling = ledger.begin_settle(process_id)
    assert isinstance(settling, Settling)
    return settling


def test_a_quiet_period_is_noted_under_the_settle_lease(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    one, other = message_of(1), message_of(2)
    left = guard.note_quiet([one], settling_of(redis))
    assert TIMERS.settle_lease_seconds - 5 < left <= TIMERS.settle_lease_seconds
    until = guard.quiet_until_ms([one, other])
    assert set(until) == {one}
    assert TIMERS.quiet_seconds - 5 < (until[one] - ledger.now_ms()) / 1000 <= TIMERS.quiet_seconds
    assert guard.quiet_until_ms([]) == {}


def test_without_the_settle_lease_nothing_is_noted(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    settling = settling_of(redis)
    pass_time(redis, ledger, TIMERS.settle_lease_seconds + 1)
    assert guard.note_quiet([message_of(1)], settling) == 0.0
    assert isinstance(ledger.begin_settle("p1"), Settling)
    assert guard.note_quiet([message_of(1)], settling) == 0.0
    ledger.forget("p1")
    assert guard.note_quiet([message_of(1)], settling) == 0.0
    assert guard.quiet_until_ms([message_of(1)]) == {}


def test_adoption_notes_quiet_periods_without_a_settle_lease(redis: Redis) -> None:
    guard = guard_on(redis, ledger_on(redis))
    assert guard.note_quiet({message_of(1), message_of(2)}, None) > 0
    assert set(guard.quiet_until_ms([message_of(1), message_of(2)])) == {message_of(1), message_of(2)}


def test_past_quiet_periods_are_dropped_and_running_ones_kept(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    lease = lease_of(guard)
    guard.note_quiet([message_of(1)], None)
    pass_time(redis, ledger, TIMERS.quiet_seconds - 10)
    guard.note_quiet([message_of(2)], None)
    pass_time(redis, ledger, 11)
    guard.note_quiet([message_of(3)], None)
    assert set(guard.quiet_until_ms([message_of(i) for i in (1, 2, 3)])) == {message_of(2), message_of(3)}
    assert redis.hget(f"{ledger.stem}:guard", "generation") == str(lease.generation)


def test_quiet_periods_generation_and_lease_vanish_together(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    generation = lease_of(guard).generation
    guard.note_quiet([message_of(1)], None)
    assert [key.removeprefix(ledger.stem) for key in redis.scan_iter(f"{ledger.stem}*")] == [":guard"]
    redis.delete(f"{ledger.stem}:guard")
    assert refused(guard, generation).reason == "recovering"


def test_an_orphan_is_adopted_when_seen_twice_far_enough_apart(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    before = ledger.now_ms()
    assert guard.sight(["a"]) == {}
    assert guard.sight(["a"]) == {}
    pass_time(redis, ledger, TIMERS.sighting_seconds - 5)
    assert guard.sight(["a", "b"]) == {}
    pass_time(redis, ledger, 6)
    (adopted,) = guard.sight(["a", "b"]).items()
    assert adopted[0] == "a"
    assert abs(adopted[1] - before + (TIMERS.sighting_seconds + 1) * 1000) < 5_000


def test_what_was_not_listed_in_between_starts_anew(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    guard.sight(["a"])
    pass_time(redis, ledger, TIMERS.sighting_seconds + 1)
    guard.sight([])
    assert guard.sight(["a"]) == {}


def test_our_own_batches_are_no_orphans(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    guard.sight(["a"])
    opened(ledger, "a", entry_of(1))
    pass_time(redis, ledger, TIMERS.sighting_seconds + 1)
    assert guard.sight(["a"]) == {}
    ledger.forget("a")
    assert guard.sight(["a"]) == {}, "a sighting of before the batch was open still counted"


def test_marked_records_are_due_after_their_wait_oldest_first(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    rows = [record_of(i, ERROR="1") for i in (11, 9, 100)]
    assert list(guard.due_marked(rows, 300)) == []
    pass_time(redis, ledger, 299)
    assert list(guard.due_marked(rows, 300)) == []
    pass_time(redis, ledger, 2)
    assert [record.record_id for record in guard.due_marked(rows, 300)] == [9, 11, 100]


def test_a_marked_record_that_keeps_changing_does_not_wait_for_ever(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    list(guard.due_marked([record_of(1, ERROR="1")], 300))
    pass_time(redis, ledger, 301)
    moved = record_of(1, ERROR="1", TIMESTAMP_X="2026-04-03T08:50:00+02:00")
    assert list(guard.due_marked([moved], 300)) == [moved]
    assert list(guard.due_marked([], 300)) == []
    assert list(guard.due_marked([moved], 300)) == [], "a sighting was kept though it was over"


def test_a_marked_record_in_its_quiet_period_is_not_due(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    rows = [record_of(1, ERROR="1"), record_of(2, ERROR="1")]
    list(guard.due_marked(rows, 10))
    pass_time(redis, ledger, 11)
    guard.note_quiet([message_of(1)], None)
    assert [record.record_id for record in guard.due_marked(rows, 10)] == [2]
    pass_time(redis, ledger, TIMERS.quiet_seconds + 1)
    assert [record.record_id for record in guard.due_marked(rows, 10)] == [1, 2]


def test_the_next_due_ones_are_found_without_reading_all(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    rows = [record_of(i, ERROR="1") for i in range(1, 181)]
    assert list(guard.due_marked(rows, 300)) == []
    pass_time(redis, ledger, 301)
    left = iter(rows)
    taken = [record.record_id for record in islice(guard.due_marked(left, 300), 20)]
    assert taken == list(range(1, 21))
    assert next(left).record_id == 51, "more than the first page was read"
    assert guard.known_marked() == 180, "what was not looked at was forgotten"


def test_a_look_at_some_forgets_only_what_it_would_have_seen(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    rows = [record_of(i, ERROR="1") for i in range(1, 181)]
    list(guard.due_marked(rows, 300))
    pass_time(redis, ledger, 301)
    left = [row for row in rows if row.record_id not in {2, 60, 180}]
    next(guard.due_marked(left, 300))
    assert guard.known_marked() == 179, "of the first page"
    assert [row.record_id for row in guard.due_marked(left, 300)] == [row.record_id for row in left]
    assert guard.known_marked() == 177
    assert list(guard.due_marked([], 300)) == []
    assert guard.known_marked() == 0


def test_one_that_is_new_to_a_look_at_some_waits_from_then_on(redis: Redis) -> None:
    ledger = ledger_on(redis)
    guard = guard_on(redis, ledger)
    assert list(guard.due_marked([record_of(1, ERROR="1")], 300)) == []
    pass_time(redis, ledger, 301)
    rows = [record_of(i, ERROR="1") for i in (1, 2)]
    assert [row.record_id for row in guard.due_marked(rows, 300)] == [1]
