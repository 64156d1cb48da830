"""Places that calls to silent portals share, in an embedded Valkey with its own clock."""

from __future__ import annotations

import threading

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b24offline import keys
from b24offline.rest.suspects import FEWEST_PLACES, SuspectPlaces, places_for
from tests.support.waiting import wait_until

KINDS = ("run", "poll", "settle")
STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "anyway", "renew", "end"]), st.sampled_from(KINDS), st.integers(0, 5))
)


def shared(redis, lease_seconds=30.0, workers=1):
    places = SuspectPlaces(redis, key_prefix="t", lease_seconds=lease_seconds)
    for _ in range(workers):
        thread = threading.Thread(target=places.note_caller)
        thread.start()
        thread.join()
    return places


def held(redis):
    return [name.partition(":")[0] for name in redis.zrange(keys.suspects("t"), 0, -1)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, workers=st.sampled_from([1, 8, 12, 20]))
def test_no_more_than_the_places_and_neither_settling_nor_the_rest_has_all(redis, steps, workers):
    redis.delete(keys.suspects("t"), keys.callers("t"))
    places, most, late = shared(redis, lease_seconds=86_400.0, workers=workers), places_for(workers), set()
    for what, kind, number in steps:
        before = set(redis.zrange(keys.suspects("t"), 0, -1))
        name, class_of = f"{kind}:{number}", lambda one: one.startswith("settle:")
        alike = sum(class_of(one) == class_of(name) for one in before)
        if what == "end":
            places.give_back(kind, str(number))
            late.discard(name)
            assert set(redis.zrange(keys.suspects("t"), 0, -1)) == before - {name}
            continue
        got = places.take(kind, str(number), {"take": "free"}.get(what, what))
        if what == "anyway":
            late |= {name} - before
        free = len(before) < most and alike < most - 1
        assert got == (name in before or what == "anyway" or (what == "take" and free))
        assert set(redis.zrange(keys.suspects("t"), 0, -1)) == (before | {name} if got else before)
        assert redis.zcard(keys.suspects("t")) - len(late) <= most


def test_a_large_deployment_has_more_places(redis):
    assert [places_for(workers) for workers in (0, 1, 8, 11, 12, 100)] == [2, 2, 2, 2, 3, 25]
    places = shared(redis, workers=16)
    places.note_caller()
    assert [places.take("run", str(number)) for number in range(5)] == [True] * 3 + [False] * 2
    assert places.take("settle", "a")
    assert not places.take("settle", "b")


def test_workers_that_are_gone_are_not_counted(redis):
    places = shared(redis, workers=40)
    for name in redis.zrange(keys.callers("t"), 0, -1):
        redis.zadd(keys.callers("t"), {name: 1})
    places.note_caller()
    assert redis.zcard(keys.callers("t")) == 1
    assert [places.take(kind, "a") for kind in KINDS] == [True, False, True]


def test_the_places_of_a_killed_worker_are_free_again(redis):
    dead = shared(redis, lease_seconds=1.0)
    assert [dead.take("run", "a"), dead.take("settle", "a")] == [True] * FEWEST_PLACES
    alive = shared(redis, lease_seconds=1.0)
    assert not alive.take("poll", "b")
    wait_until(lambda: alive.take("poll", "b"), "its place expires")


def test_a_place_from_another_time_is_nobodys(redis):
    redis.zadd(keys.suspects("t"), {"run:a": 9_999_999_999_999, "settle:a": 1})
    assert shared(redis).take("poll", "b")
    assert held(redis) == ["poll"]
