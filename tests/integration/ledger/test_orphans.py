"""What looks at the portal's list note of orphans, and which of them may be adopted when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.ledger import BatchKind, Fencing, Glance, Ledger, Orphans, PollLease, glances
from tests.support.core_events import (
    PORTAL,
    PREFIX,
    TIMERS,
    adoptable,
    entry_of,
    guard_on,
    ledger_on,
    opened,
    pass_time,
)

if TYPE_CHECKING:
    from redis import Redis

EPOCH = 7


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return ledger_on(redis)


@pytest.fixture
def fencing(redis: Redis, ledger: Ledger) -> Fencing:
    return guard_on(redis, ledger)


@pytest.fixture
def orphans(redis: Redis, ledger: Ledger) -> Orphans:
    return Orphans(redis, ledger, TIMERS)


def glance(redis: Redis) -> Glance:
    return glances(redis, PREFIX, [PORTAL])[PORTAL]


def lease_of(fencing: Fencing, known: int | None = None) -> PollLease:
    lease = fencing.take_poll_lease(known, gate=False)
    assert isinstance(lease, PollLease)
    return lease


def unanswered(redis: Redis, ledger: Ledger, fencing: Fencing) -> PollLease:
    """Send a reserving call whose answer nobody learns; return the lease that follows."""
    lease = lease_of(fencing)
    assert fencing.renew(lease)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds + 1)
    return lease_of(fencing, lease.epoch)


def test_an_orphan_that_no_call_explains_is_adopted_a_sighting_later(redis: Redis, ledger: Ledger) -> None:
    before = ledger.now_ms()
    assert adoptable(redis, ledger, ["a"]) == {}
    assert adoptable(redis, ledger, ["a"]) == {}
    pass_time(redis, ledger, TIMERS.sighting_seconds - 5)
    assert adoptable(redis, ledger, ["a", "b"]) == {}
    pass_time(redis, ledger, 6)
    (adopted,) = adoptable(redis, ledger, ["a", "b"]).items()
    assert adopted[0] == "a"
    assert abs(adopted[1] - before + (TIMERS.sighting_seconds + 1) * 1000) < 5_000


def test_what_an_unanswered_call_left_may_be_adopted_at_once(
    redis: Redis, ledger: Ledger, fencing: Fencing, orphans: Orphans
) -> None:
    lease = unanswered(redis, ledger, fencing)
    assert lease.unanswered
    assert glance(redis).unanswered
    orphans.note_page(0, None, ["a"], unreadable=0)
    assert [(orphan.process_id, orphan.at_once) for orphan in orphans.due()] == [("a", True)]
    assert fencing.release(lease)
    assert not lease_of(fencing, lease.epoch).unanswered, "told of it twice"


def test_of_its_own_call_the_holder_of_the_lease_knows_at_once(fencing: Fencing, orphans: Orphans) -> None:
    lease = lease_of(fencing)
    orphans.note_page(0, None, ["a"], unreadable=0)
    assert orphans.due() == ()
    assert fencing.renew(lease)
    assert [orphan.process_id for orphan in orphans.due()] == ["a"]


@pytest.mark.parametrize("ended", ["released", "opened"])
def test_an_answer_that_is_known_leaves_nothing_to_look_for(
    ledger: Ledger, fencing: Fencing, orphans: Orphans, ended: str
) -> None:
    lease = lease_of(fencing)
    assert fencing.renew(lease)
    if ended == "released":
        fencing.release(lease)
    else:
        opened(ledger, "a", entry_of(1), poll_token=lease.token)
    assert not lease_of(fencing, lease.epoch).unanswered
    assert orphans.note_page(0, None, ["b"], unreadable=0)
    assert orphans.due() == ()


def test_longer_than_a_portal_executes_a_call_nothing_is_explained_by_it(
    redis: Redis, ledger: Ledger, fencing: Fencing, orphans: Orphans
) -> None:
    unanswered(redis, ledger, fencing)
    pass_time(redis, ledger, TIMERS.in_doubt_seconds)
    orphans.note_page(0, None, ["a"], unreadable=0)
    assert orphans.due() == ()


def test_nothing_at_once_within_an_in_doubt_window_of_a_lost_ledger(
    redis: Redis, ledger: Ledger, fencing: Fencing, orphans: Orphans
) -> None:
    fencing.take_poll_lease(EPOCH)
    pass_time(redis, ledger, TIMERS.recovery_seconds + 1)
    epoch = int(redis.hget(f"{ledger.stem}:fencing", "epoch"))
    lease = lease_of(fencing, epoch)
    orphans.note_page(0, None, ["a"], unreadable=0)
    assert fencing.renew(lease)
    assert orphans.due() == (), "calls of before the loss may be on their way"
    pass_time(redis, ledger, TIMERS.all_in_doubt_seconds - TIMERS.recovery_seconds)
    assert [orphan.at_once for orphan in orphans.due()] == [True]


@pytest.mark.parametrize("how", ["forgotten by a settle", "found damaged by a sweep"])
def test_nothing_at_once_after_a_batch_was_damaged(
    redis: Redis, ledger: Ledger, fencing: Fencing, orphans: Orphans, how: str
) -> None:
    opened(ledger, "a", entry_of(1))
    unanswered(redis, ledger, fencing)
    if how == "forgotten by a settle":
        ledger.forget("a")
    else:
        redis.delete(f"{ledger.stem}:batch:a")
        ledger.take_overdue()
    orphans.note_page(0, None, ["a"], unreadable=0)
    assert glance(redis).orphans
    assert glance(redis).lost_ms
    assert orphans.due() == (), "a clear of before may be on its way"


def test_our_own_batches_are_no_orphans(redis: Redis, ledger: Ledger) -> None:
    adoptable(redis, ledger, ["a"])
    opened(ledger, "a", entry_of(1))
    pass_time(redis, ledger, TIMERS.sighting_seconds + 1)
    assert adoptable(redis, ledger, ["a"]) == {}
    ledger.forget("a")
    assert adoptable(redis, ledger, ["a"]) == {}, "a sighting of before the batch was open still counted"


def test_an_orphan_is_opened_under_its_lease_only(redis: Redis, ledger: Ledger, fencing: Fencing) -> None:
    """Else another worker may have adopted it meanwhile, and settled it."""
    late = lease_of(fencing)
    pass_time(redis, ledger, TIMERS.poll_lease_seconds + 1)
    adoption = {"kind": BatchKind.ADOPTED, "first_seen_ms": 1}
    assert ledger.open("a", [entry_of(1)], poll_token=late.token, **adoption) is None, "the lease ran out"
    other = lease_of(fencing, late.epoch)
    assert ledger.open("a", [entry_of(1)], poll_token=other.token, **adoption) == 1
    ledger.forget("a")
    assert ledger.open("a", [entry_of(1)], poll_token=late.token, **adoption) is None, "another worker has the lease"
    assert ledger.open("b", [entry_of(2)], poll_token=other.token, **adoption) == 1


def test_a_look_goes_on_where_it_was_cut_off(fencing: Fencing, orphans: Orphans) -> None:
    lease_of(fencing)
    assert orphans.look_after() == 0
    assert orphans.note_page(0, 50, ["a"] * 50, unreadable=0)
    assert orphans.note_page(50, 100, ["b"] * 49, unreadable=1)
    assert orphans.look_after() == 100
    assert orphans.note_page(100, None, ["c"], unreadable=0)
    assert orphans.look_after() == 0


def test_of_two_looks_at_one_place_the_second_notes_nothing(fencing: Fencing, orphans: Orphans) -> None:
    lease_of(fencing)
    assert orphans.note_page(0, 50, ["a"] * 50, unreadable=0)
    assert not orphans.note_page(0, 50, ["a"] * 50, unreadable=0)


def test_a_loss_forgets_sightings_and_notes_none_while_it_recovers(
    redis: Redis, ledger: Ledger, fencing: Fencing, orphans: Orphans
) -> None:
    assert not orphans.note_page(0, None, ["a"], unreadable=0), "noted before the loss is noticed"
    adoptable(redis, ledger, ["a"])
    fencing.take_poll_lease(EPOCH)
    assert not orphans.note_page(0, None, ["a"], unreadable=0)
    assert orphans.look_after() is None
    pass_time(redis, ledger, TIMERS.sighting_seconds + 1)
    assert orphans.due() == ()
