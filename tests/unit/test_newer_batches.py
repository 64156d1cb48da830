"""Batches of a newer version in the ledger: left alone by this one, whatever comes, until they are given up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from core_events import PID, TIMERS, due_times, entry_of, guard_on, ledger_on, opened, pass_time, ran, run_of, run_state

from b24offline.contract import LEDGER_SCHEMA
from b24offline.lanes import HELD_LANE
from b24offline.ledger import Handed, Overdue, Settling
from b24offline.newer_batches import NewerBatches
from b24offline.parking import Parking
from b24offline.portal_guard import PollLease, PollRefused
from b24offline.store import Cipher, Store

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from b24offline.ledger import Ledger

pytestmark = pytest.mark.unit

LONG = 20 * TIMERS.run_queue_seconds
OTHER = "b" * 32


@pytest.fixture
def old(redis: Redis) -> Ledger:
    return ledger_on(redis)


@pytest.fixture
def new(redis: Redis) -> Ledger:
    ledger = ledger_on(redis)
    ledger.schema = LEDGER_SCHEMA + 1
    return ledger


def everything(redis: Redis, ledger: Ledger) -> dict[str, object]:
    """All that the ledger holds, but for counters and what is the portal's own."""
    held: dict[str, object] = {}
    for key in redis.scan_iter(f"{ledger.stem}:*"):
        kind, name = redis.type(key), key.removeprefix(ledger.stem)
        if name == ":stats":
            continue
        held[name] = {
            "hash": redis.hgetall,
            "string": redis.get,
            "list": lambda key: redis.lrange(key, 0, -1),
            "set": redis.smembers,
            "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        }[kind](key)
    return held


def test_nothing_of_a_newer_batch_is_touched(redis: Redis, old: Ledger, new: Ledger) -> None:
    running, waiting = opened(new, PID, entry_of(1), entry_of(2, marked=True), entry_of(3, "1"))
    ran(new, running)
    new.hold_back(waiting.run, waiting.attempt, reason="Boom")
    pass_time(redis, new, LONG)
    before = everything(redis, new)
    for one in (running, waiting, Handed(waiting.run, int(redis.hget(f"{new.stem}:run:{waiting.run}", "attempt")))):
        assert old.begin_step(one.run, one.attempt, 1) is None
        assert not old.renew(one.run, one.attempt, 0)
        assert not old.pass_on(one.run, one.attempt, 0)
        assert not old.restart_later(one.run, one.attempt, 1, counted=True, reason="r")
        assert not old.hold_back(one.run, one.attempt, reason="r")
        assert not old.succeed(one.run, one.attempt).recorded
        assert not old.fail(one.run, one.attempt, "r", backoff_seconds=1).recorded
        assert not old.crash(one.run, one.attempt, backoff_seconds=1).recorded
        assert old.transition("park_run", one.run, one.attempt, 1, "parked") == "moved"
        assert old.transition("redrive_run", one.run, 0, HELD_LANE, 1) == "of a newer version"
        assert old.transition("drop_run", one.run, "r") == "of a newer version"
    assert old.start(PID) == ()
    assert old.postpone(PID, 1) == 0
    assert old.begin_settle(PID) == "newer"
    assert old.open(PID, [entry_of(1)], origin="adopted") is None
    old.forget(PID)
    assert old.take_overdue() == Overdue((), (), newer=1)
    assert everything(redis, new) == before


def test_the_newer_version_goes_on_where_it_was(redis: Redis, old: Ledger, new: Ledger) -> None:
    (one,) = opened(new, PID, entry_of(1))
    ran(new, one)
    pass_time(redis, new, LONG)
    assert old.take_overdue().runs == ()
    (again,) = new.take_overdue().runs
    assert new.begin_step(again.run, again.attempt, 0) is not None
    assert new.succeed(again.run, again.attempt).settleable == (PID,)
    assert isinstance(new.begin_settle(PID), Settling)


def test_a_newer_version_works_on_older_batches(old: Ledger, new: Ledger) -> None:
    ((one), (two)) = opened(old, PID, entry_of(1), entry_of(2))
    for ledger, each in ((new, one), (old, two)):
        assert ledger.begin_step(each.run, each.attempt, 0) is not None
        assert ledger.succeed(each.run, each.attempt).recorded
    assert isinstance(new.begin_settle(PID), Settling)


def test_what_bears_no_number_is_of_the_first_schema(redis: Redis, old: Ledger) -> None:
    (one,) = opened(old, PID, entry_of(1))
    for key in (f"batch:{PID}", f"run:{one.run}"):
        assert redis.hdel(f"{old.stem}:{key}", "schema") == 1
    assert old.begin_step(one.run, one.attempt, 0) is not None
    assert old.succeed(one.run, one.attempt).settleable == (PID,)
    assert isinstance(old.begin_settle(PID), Settling)


def test_overdue_ones_of_a_newer_version_do_not_keep_ours_waiting(redis: Redis, old: Ledger, new: Ledger) -> None:
    opened(new, PID, *(entry_of(number) for number in range(1, 30)))
    pass_time(redis, new, 10)
    (ours,) = opened(old, OTHER, entry_of(40))
    pass_time(redis, new, LONG)
    assert old.take_overdue(limit=7).runs == (Handed(ours.run, 2),)
    assert len(new.take_overdue(limit=7).runs) == 6


def test_due_entries_of_an_unknown_kind_are_left(redis: Redis, old: Ledger) -> None:
    redis.zadd(f"{old.stem}:due", {"letter:7": 1, "odd": 1})
    assert old.take_overdue() == Overdue((), ())
    assert set(due_times(redis, old)) == {"letter:7", "odd"}


def test_one_object_waits_in_one_mailbox_whoever_is_first(redis: Redis, old: Ledger, new: Ledger) -> None:
    (first,) = opened(old, PID, entry_of(1, "7"))
    assert opened(new, OTHER, entry_of(2, "7")) == ()
    ran(old, first)
    assert old.succeed(first.run, first.attempt).next is None, "handed out what it does not know"
    assert run_state(redis, new, run_of(2)) == "ready"
    pass_time(redis, new, LONG)
    assert old.take_overdue().runs == ()
    assert [one.run for one in new.take_overdue().runs] == [run_of(2)]


def test_ours_waits_behind_one_of_a_newer_version(redis: Redis, old: Ledger, new: Ledger) -> None:
    opened(new, PID, entry_of(1, "7"))
    redis.hset(f"{new.stem}:run:{run_of(1)}", "state", "succeeded")
    assert opened(old, OTHER, entry_of(2, "7")) == ()
    pass_time(redis, old, LONG)
    assert old.take_overdue().runs == ()
    assert redis.lindex(old.mailbox(entry_of(1, "7").event, "deal_changed"), 0) == run_of(1)


def test_batches_of_different_schemas_share_no_run(redis: Redis, old: Ledger, new: Ledger) -> None:
    for mine, theirs in ((old, new), (new, old)):
        redis.flushall()
        opened(mine, PID, entry_of(1), entry_of(2))
        before = everything(redis, mine)
        assert theirs.open(OTHER, [entry_of(3), entry_of(2)], origin="adopted") is None
        assert everything(redis, mine) == before


def test_newer_batches_do_not_close_the_gate_and_are_no_orphans(redis: Redis, old: Ledger, new: Ledger) -> None:
    opened(new, PID, entry_of(1))
    guard = guard_on(redis, old, gate=1)
    assert guard.sight([PID]) == {}
    pass_time(redis, old, TIMERS.sighting_seconds + 1)
    assert guard.sight([PID]) == {}
    lease = guard.take_poll_lease(None)
    assert isinstance(lease, PollLease)
    guard.give_back(lease)
    opened(old, OTHER, entry_of(2))
    assert isinstance(guard.take_poll_lease(None), PollRefused)


def test_they_are_found_and_told(redis: Redis, old: Ledger, new: Ledger) -> None:
    opened(new, PID, entry_of(1))
    opened(old, OTHER, entry_of(2))
    assert NewerBatches(redis, old).found() == {PID: new.schema}
    assert NewerBatches(redis, old).holds(PID)
    assert not NewerBatches(redis, old).holds(OTHER)
    assert not NewerBatches(redis, old).holds("c" * 32)
    assert NewerBatches(redis, new).found() == {}


def test_what_is_given_up_becomes_orphans_and_leaves_nothing_behind(redis: Redis, old: Ledger, new: Ledger) -> None:
    (theirs, *_) = opened(new, PID, entry_of(1, "7"), entry_of(2))
    ran(new, theirs)
    opened(old, OTHER, entry_of(3, "7"))
    newest = ledger_on(redis)
    newest.schema = new.schema + 1
    opened(newest, "c" * 32, entry_of(4))
    newer = NewerBatches(redis, old)
    assert newer.forget(new.schema) == 1
    assert newer.found() == {"c" * 32: newest.schema}
    assert newer.forget(new.schema) == 0
    assert not [key for key in everything(redis, old) if PID in key or theirs.run == key.removeprefix(":run:")]
    assert guard_on(redis, old).sight([PID]) == {}
    pass_time(redis, old, TIMERS.sighting_seconds + 1)
    assert list(guard_on(redis, old).sight([PID])) == [PID]
    assert [one.run for one in old.take_overdue().runs] == [run_of(3)]
    assert opened(old, PID, entry_of(1, "7"), origin="adopted") == (), "two runs of one object at once"
    assert not old.succeed(theirs.run, theirs.attempt).recorded, "a late message fits the new run"


def test_only_newer_schemas_can_be_given_up(redis: Redis, old: Ledger) -> None:
    opened(old, PID, entry_of(1))
    with pytest.raises(ValueError, match="known here"):
        NewerBatches(redis, old).forget(old.schema)
    assert list(old.open_batches()) == [PID]


def test_a_letter_about_a_newer_run_is_not_dropped_behind_its_back(
    redis: Redis, old: Ledger, new: Ledger, tmp_path: Path
) -> None:
    store = Store(f"sqlite:///{tmp_path}/b24.db", Cipher(["x" * 43 + "="]))
    opened(new, PID, entry_of(1, marked=True))
    redis.hset(f"{new.stem}:run:{run_of(1)}", "state", "parked")
    parking = Parking(old, store, TIMERS)
    assert parking.drop(run_of(1), "op") == parking.redrive(run_of(1)) == "of a newer version"
    assert json.loads(redis.hget(f"{new.stem}:batch:{PID}:records", "1"))["marked"] is True
