"""When each portal is polled next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from b24offline.ledger import LaneSchedule, PollSchedule, Signals, next_interval_seconds
from b24offline.ledger.transitions import clock_ms

if TYPE_CHECKING:
    from redis import Redis

KEY = "coretest:polls"


@given(
    previous=st.floats(0, 10_000),
    received=st.integers(0, 600),
    limit=st.integers(1, 500),
    minimum=st.floats(0.1, 10),
    more=st.floats(0, 1_000),
)
def test_intervals(previous: float, received: int, limit: int, minimum: float, more: float) -> None:
    maximum = minimum + more
    wait = next_interval_seconds(previous, received, limit, minimum, maximum)
    if received >= limit:
        assert wait == 0
    elif received:
        assert wait == minimum
    else:
        assert minimum <= wait <= maximum
        assert wait >= min(previous, maximum)


def wait_of(redis: Redis, portal: str) -> float:
    seconds, micros = redis.time()
    return redis.zscore(KEY, portal) / 1000 - seconds - micros / 1e6


def test_new_portals_are_due_at_once_and_only_once(redis: Redis) -> None:
    schedule = PollSchedule(redis, "coretest")
    assert schedule.take_due(60) == []
    schedule.seed(["a", "b"])
    assert sorted(schedule.take_due(60)) == ["a", "b"]
    assert schedule.take_due(60) == []
    assert 55 < wait_of(redis, "a") <= 60, "a poll that dies would have been the last one"
    schedule.seed(["a", "b"])
    assert schedule.take_due(60) == [], "seeding made a portal due that was not"


def test_portals_that_are_not_named_any_more_are_dropped(redis: Redis) -> None:
    schedule = PollSchedule(redis, "coretest")
    schedule.seed(["a", "b"])
    schedule.seed(["b", "c"])
    assert sorted(schedule.take_due(60)) == ["b", "c"]
    schedule.seed([])
    assert redis.zcard(KEY) == 0


def test_a_portal_is_due_when_it_was_said(redis: Redis) -> None:
    schedule = PollSchedule(redis, "coretest")
    schedule.seed(["a", "b"])
    schedule.take_due(60)
    schedule.set_next("a", 0)
    schedule.set_next("b", 30)
    assert schedule.take_due(60) == ["a"]


def test_a_dropped_portal_does_not_come_back_by_a_late_answer(redis: Redis) -> None:
    schedule = PollSchedule(redis, "coretest")
    schedule.seed(["a"])
    schedule.seed([])
    schedule.set_next("a", 0)
    assert schedule.take_due(60) == []


def test_the_limit_leaves_the_rest_due(redis: Redis) -> None:
    schedule = PollSchedule(redis, "coretest")
    schedule.seed([f"p{i}" for i in range(10)])
    taken = [schedule.take_due(60, limit=4) for _ in range(4)]
    assert [len(one) for one in taken] == [4, 4, 2, 0]
    assert len({name for one in taken for name in one}) == 10


def test_lanes_of_a_portal_are_due_apart(redis: Redis) -> None:
    lanes = LaneSchedule(redis, "coretest:{acme}")
    assert lanes.waited_ms(["deals", "default"]) == {"deals": 0, "default": 0}, "a lane never polled is due now"
    lanes.set_next("deals", 30, polled_ms=0, soon_seconds=1)
    lanes.set_next("default", 0, polled_ms=0, soon_seconds=0)
    waited = lanes.waited_ms(["deals", "default"])
    assert -30_000 <= waited["deals"] < -25_000
    assert 0 <= waited["default"] < 5_000
    assert lanes.interval_seconds("deals") == 30.0
    assert lanes.interval_seconds("unknown") == 0.0
    assert LaneSchedule(redis, "coretest:{other}").waited_ms(["deals"]) == {"deals": 0}


def test_a_signal_makes_lanes_due_unless_they_were_polled_just_now(redis: Redis) -> None:
    lanes = LaneSchedule(redis, "coretest:{acme}")
    now = clock_ms(redis)
    lanes.set_next("idle", 300, polled_ms=now - 60_000, soon_seconds=1)
    lanes.set_next("fresh", 300, polled_ms=now, soon_seconds=1)
    assert 20 < lanes.wake({"fresh": 30.0}) <= 30, "polled just now: as soon as its least interval allows"
    redis.hset("coretest:{acme}:lanes", "idle", f"{now + 240_000} 300000 {now - 60_000}")
    assert lanes.wake({"idle": 1.0, "fresh": 30.0}) == 0
    assert lanes.waited_ms(["idle"])["idle"] >= 0
    assert lanes.interval_seconds("idle") == 1.0, "what was signalled may be seen a moment later only"
    assert lanes.wake({"never polled": 1.0}) == 0


def test_a_signal_never_delays_a_lane(redis: Redis) -> None:
    lanes = LaneSchedule(redis, "coretest:{acme}")
    lanes.set_next("due", 0, polled_ms=clock_ms(redis), soon_seconds=0)
    assert lanes.wake({"due": 60.0}) == 0


def test_a_signal_during_a_poll_is_not_forgotten_by_it(redis: Redis) -> None:
    lanes = LaneSchedule(redis, "coretest:{acme}")
    began_ms = clock_ms(redis)
    lanes.wake({"default": 1.0})
    lanes.set_next("default", 300, polled_ms=began_ms, soon_seconds=1)
    assert lanes.waited_ms(["default"])["default"] >= -1000
    lanes.set_next("default", 300, polled_ms=clock_ms(redis) + 1, soon_seconds=1)
    assert lanes.waited_ms(["default"])["default"] < -200_000


def test_lanes_that_were_full_are_due_once_there_may_be_room(redis: Redis) -> None:
    lanes = LaneSchedule(redis, "coretest:{acme}")
    for name in ("full", "other"):
        lanes.set_next(name, 60, polled_ms=clock_ms(redis), soon_seconds=1)
    names = ["full", "other", "never polled"]
    assert lanes.resume(names) == 0
    lanes.note_full("full", clock_ms(redis))
    lanes.note_full("never polled", clock_ms(redis))
    assert lanes.resume(["other"]) == 0, "a lane that was taken out of the settings wakes nobody"
    assert lanes.resume(names) == 1
    waited = lanes.waited_ms(["full", "other"])
    assert waited["full"] >= 0 > waited["other"]
    assert lanes.interval_seconds("full") == 60
    lanes.set_next("full", 60, polled_ms=clock_ms(redis), soon_seconds=1)
    lanes.note_room("full")
    assert lanes.resume(names) == 0


def test_signals_and_what_they_missed_are_noted(redis: Redis) -> None:
    lanes = LaneSchedule(redis, "coretest:{acme}")
    assert lanes.signals() == Signals()
    lanes.wake({"default": 1.0})
    lanes.note_missed()
    found = lanes.signals()
    assert 0 < found.heard_ms <= found.missed_ms


def test_a_portal_is_hastened_and_never_delayed(redis: Redis) -> None:
    schedule = PollSchedule(redis, "coretest")
    schedule.seed(["a"])
    schedule.set_next("a", 300)
    schedule.hasten("a", 600)
    schedule.hasten("not served", 0)
    assert schedule.take_due(60) == []
    schedule.hasten("a", 0)
    assert schedule.take_due(60) == ["a"]
