"""Slots and circuits of the calls to a portal, in an embedded Valkey with its own clock."""

from __future__ import annotations

import threading
import time

import pytest
import redis as redis_client

from b24offline import keys
from b24offline.config import Timers
from b24offline.ledger import Ledger
from b24offline.monitoring.health_sample import take_sample
from b24offline.rest import CallRules, RateLimiter
from b24offline.rest.call_slots import GIVEN_UP, CallSlot, Request
from tests.support.waiting import wait_until

KEY = keys.calls(keys.stem("t", "acme"))


def limiter(redis, requests_per_second=100, **rules):
    rules = CallRules(**{"lease_seconds": 30.0, "rest_seconds": (3.0, 30.0), "slow_seconds": 20.0, **rules})
    return RateLimiter(redis, key_prefix="t", requests_per_second=requests_per_second, burst=1000, call_rules=rules)


def take(of, kind="run", method="crm.deal.get", portal="acme"):
    """Ask for a turn. Return the slot, the reason, and the wait."""
    slot = of.slots.new(portal, [method], kind)
    turn = of.take(portal, kind, [], slot)
    return slot, turn.why, turn


def silent(of, weight=3, method="crm.deal.get", portal="acme"):
    """Let a call bring no answer."""
    slot, why, _ = take(of, method=method, portal=portal)
    assert why == "go"
    return of.slots.give_back(slot, weight)


@pytest.mark.parametrize(
    ("held", "free"),
    [
        ("", "run poll settle"),
        ("run", "run poll settle"),
        ("run run", "poll settle"),
        ("run run poll", "settle"),
        ("run run settle", "poll"),
        ("poll poll poll", "settle"),
        ("settle settle settle", "poll"),
        ("poll poll", "run poll settle"),
        ("run run poll settle", ""),
    ],
)
def test_polls_and_settling_keep_a_slot_each(redis, held, free):
    of = limiter(redis)
    assert {take(of, kind)[1] for kind in held.split()} <= {"go"}
    found = []
    for kind in ("run", "poll", "settle"):
        slot, why, _ = take(of, kind)
        found += [kind] if why == "go" else []
        of.slots.give_back(slot, None)
    assert found == free.split()
    assert take(of, portal="other")[1] == "go"


def test_workers_together_never_hold_more_slots(valkey, redis):
    lock, most, now, begin = threading.Lock(), 0, 0, threading.Barrier(8)

    def work():
        nonlocal most, now
        of = limiter(redis_client.Redis.from_url(valkey.url))
        begin.wait()
        for _ in range(30):
            slot, why, _ = take(of, "settle")
            if why != "go":
                continue
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= 1
            of.slots.give_back(slot, 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 3


def test_the_slots_of_a_killed_worker_are_free_again(redis):
    of = limiter(redis, lease_seconds=1.0)
    for name in ("a", "b"):
        assert of.take("acme", "run", [], CallSlot("acme", "others", "run", name)).why == "go"  # nobody renews them
    assert take(of)[1] == "full"
    wait_until(lambda: take(of)[1] == "go", "the slots expire")


def test_a_slot_lasts_as_long_as_its_call(redis):
    of = limiter(redis, lease_seconds=1.5, in_flight=3)
    slot, why, _ = take(of)
    assert why == "go"
    begun = time.monotonic()
    while time.monotonic() - begun < 4:
        assert redis.hexists(KEY, f"call:{slot.name}")
        assert take(of)[1] == "full"
        time.sleep(0.1)
    of.slots.give_back(slot, 0)
    assert take(of)[1] == "go"


def test_who_is_refused_comes_back_after_the_one_before(redis):
    of = limiter(redis, requests_per_second=1)
    take(of), take(of)
    waits = [take(of)[2].wait_seconds for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[-1] > 2 * waits[0]
    slot = of.slots.new("acme", ["m"], "run")
    assert of.take("acme", "run", [], slot, waits=True).wait_seconds == 0  # looks again itself


def test_nobody_waits_for_slots_of_calls_that_last(redis):
    of = limiter(redis, slow_seconds=0.05)
    take(of), take(of)
    time.sleep(0.1)
    assert of.take("acme", "run", [], of.slots.new("acme", ["m"], "run"), waits=True).why == "slow"


@pytest.mark.parametrize("weights", [[1, 1, 1], [3]])
def test_a_circuit_opens_then_one_call_tries(redis, weights):
    of = limiter(redis)
    assert [silent(of, weight) for weight in weights][-1] == "opened"
    assert take(of)[1] == "silent"
    assert take(of, "poll", "event.offline.get")[1] == "go"  # has a circuit of its own
    assert take(of, portal="other")[1] == "go"
    wait_until(lambda: (found := take(of))[1] == "go" and found[2].suspect, "one call tries")
    assert take(of)[1] == "silent"  # and no second one meanwhile
    assert list(take_sample(redis, Ledger(redis, "t", "acme", Timers())).silent) == ["others"]


def test_an_answer_closes_a_circuit_silence_rests_longer(redis):
    of = limiter(redis)
    silent(of)
    found = []
    wait_until(lambda: found.append(take(of)) or found[-1][1] == "go", "one call tries")
    assert of.slots.give_back(found[-1][0], 1) == ""
    assert take(of)[2].wait_seconds > 25
    late = of.slots.new("acme", ["crm.deal.get"], "run")  # a call from before the circuit opened is answered after all
    assert of.slots.give_back(late, 0) == "closed"
    assert take(of)[1] == "go"
    assert take_sample(redis, Ledger(redis, "t", "acme", Timers())).silent == {}


def test_answers_between_silences_keep_a_circuit_closed(redis):
    of = limiter(redis)
    for weight in (1, 1, 0, 1, 1):
        silent(of, weight)
    assert take(of)[1] == "go"


def test_calls_after_a_silent_one_are_suspect_until_one_is_answered(redis):
    of = limiter(redis)
    assert not take(of)[2].suspect
    silent(of, 1)
    slot, why, turn = take(of)
    assert (why, turn.suspect) == ("go", True)
    assert not take(of, "poll", "event.offline.get")[2].suspect
    of.slots.give_back(slot, 0)
    assert not take(of)[2].suspect


def test_calls_that_are_given_up_open_no_circuit(redis):
    of = limiter(redis)
    slots = [take(of)[0] for _ in range(2)] + [take(of, "poll", "crm.deal.list")[0]]
    assert [of.slots.give_back(slot, GIVEN_UP) for slot in slots] == ["", "", ""]
    _, why, turn = take(of)
    assert (why, turn.suspect) == ("go", True)


def test_calls_beside_a_late_one_are_suspect_a_slow_portal_has_more_time(redis):
    of = limiter(redis, late_seconds=0.2)
    first, _, turn = take(of)
    assert turn.late_seconds == pytest.approx(0.2)
    time.sleep(0.25)
    second, _, turn = take(of)
    assert turn.suspect
    of.slots.give_back(first, 0, request=Request("answered", 0.4))
    of.slots.give_back(second, 0, request=Request("answered", 0.01))
    _, _, turn = take(of)
    assert (turn.suspect, turn.late_seconds) == (False, pytest.approx(0.8))
    time.sleep(0.25)
    assert not take(of)[2].suspect


@pytest.mark.parametrize(("weight", "why"), [(1, "slow"), (3, "silent")])
def test_a_suspect_call_without_a_place_is_told_when_to_come(redis, weight, why):
    of = limiter(redis, slow_seconds=1.0, rest_seconds=(0.05,))
    silent(of, weight)
    time.sleep(0.1)
    waits = []
    for _ in range(3):
        slot, _, turn = take(of)
        assert turn.suspect
        refused = of.take("acme", "run", [], slot, crowded=True)
        of.slots.forget(slot)
        assert refused.why == why
        waits.append(refused.wait_seconds)
    assert waits == sorted(waits)
    assert waits[-1] > 2
    assert take(of)[1] == "go"  # they hold no slot


@pytest.mark.parametrize("value", ["run others 9999999999999 9999999999999 0", "nonsense"])
def test_a_slot_from_another_time_is_nobodys(redis, value):
    redis.hset(KEY, mapping={"call:a": value, "call:b": value, "circuit:others": "3 9999999999999 1"})
    of = limiter(redis)
    assert take(of)[1] == "go"  # tries at once: a clock set back does not suspend calls for a day
    assert redis.hlen(KEY) == 2
