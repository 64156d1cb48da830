"""A call over HTTP and its slot: whatever comes of the call, whoever finds none, and portals that hang."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext

import pytest

from b24offline import errors, keys
from b24offline.rest import CallRules, Command, NotAnswering
from tests.support.http_portal import Parts, parts, portal
from tests.support.waiting import wait_until

__all__ = ["parts", "portal"]

SLOTS = keys.calls(keys.stem("t", "acme"))


def in_flight(redis):
    return [name for name in redis.hkeys(SLOTS) if name.startswith("call:")]


def refused_inside(client):
    with client.slot("m"):
        raise LookupError("a precondition does not hold")


@pytest.mark.parametrize(
    ("script", "call", "error"),
    [
        ([], lambda client: client.call("m"), None),
        ([], lambda client: client.batch({"a": Command("m", {})}), errors.UnknownAnswer),
        ([(500, {"error": "INTERNAL_SERVER_ERROR"})], lambda client: client.call("m"), errors.ServerError),
        ([(200, b"x" * 20_000)], lambda client: client.call("m"), errors.UnknownAnswer),
        ([], refused_inside, LookupError),
    ],
)
def test_a_slot_ends_with_its_call_whatever_came_of_it(portal, parts, redis, script, call, error):
    portal.script = script
    with pytest.raises(error) if error else nullcontext():
        call(parts.client)
    assert portal.calls or error is LookupError
    assert in_flight(redis) == []


def test_a_hanging_portal_holds_two_callers_no_third(portal, redis, tmp_path):
    """The others look for a slot while calls are quick, and return; polls and settling go on."""
    portal.hangs = ("crm.deal.get",)
    rules = CallRules(slow_seconds=60)
    parts = Parts(portal, redis, tmp_path, read_timeout_seconds=40, call_rules=rules, max_wait_seconds=0.5)
    callers = [threading.Thread(target=parts.client.call, args=("crm.deal.get",)) for _ in range(2)]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(portal.calls) == 2, "two hang")
    with pytest.raises(errors.RateLimited):
        parts.client.call("crm.deal.get")
    assert parts.slept == [0.05, 0.1, 0.2]
    parts.slept.clear()
    with pytest.raises(errors.RateLimited):
        parts.client.batch({"a": Command("crm.deal.get", {})}, waits=False)
    assert parts.slept == []
    assert parts.client.call("event.offline.get", kind="poll") == 3
    assert parts.client.call("event.offline.clear", kind="settle") == 4
    assert len(in_flight(redis)) == 2
    portal.answers.set()
    for caller in callers:
        caller.join()
    assert in_flight(redis) == []
    assert parts.client.call("crm.deal.get") == 5


def test_one_call_tries_a_portal_that_let_a_call_time_out(portal, redis, tmp_path):
    portal.hangs = ("crm.deal.get",)
    rules = CallRules(long_seconds=0.4, rest_seconds=(1.0,))
    parts = Parts(portal, redis, tmp_path, read_timeout_seconds=0.5, call_rules=rules)
    with pytest.raises(errors.UnknownAnswer):
        parts.client.call("crm.deal.get")
    with pytest.raises(NotAnswering, match="it has not answered calls like this one"):
        parts.client.call("crm.deal.list")
    assert parts.client.call("event.offline.get", kind="poll") == 2
    portal.answers.set()

    def answered():
        try:
            return parts.client.call("crm.deal.get")
        except NotAnswering:
            return None

    wait_until(answered, "one tries and is answered")
    assert parts.client.call("crm.deal.list") == 4
    assert parts.slept == []


def test_a_read_is_given_up_early_the_next_has_twice_the_time(portal, redis, tmp_path):
    """A slow portal is read in the end; what writes has all the time from the start."""
    portal.hangs, portal.seconds = ("crm.deal.get", "crm.deal.update"), 1.5
    rules = CallRules(patience_seconds=0.5, rest_seconds=(0.1,))
    parts = Parts(portal, redis, tmp_path, read_timeout_seconds=30, call_rules=rules)
    assert parts.client.call("crm.deal.update") == 1
    begun = time.monotonic()
    refused = []

    def read():
        try:
            return parts.client.call("crm.deal.get")
        except (errors.UnknownAnswer, NotAnswering) as error:
            refused.append(type(error))
            return None

    read()
    assert refused == [errors.UnknownAnswer]
    assert time.monotonic() - begun < 1.5
    wait_until(read, "it is read with more patience")
    assert refused.count(errors.UnknownAnswer) == 2


def seconds_of(call, error=errors.UnknownAnswer):
    begun = time.monotonic()
    with pytest.raises(error):
        call()
    return time.monotonic() - begun


def test_a_late_read_is_given_up_when_other_portals_have_the_places(portal, redis, tmp_path):
    portal.hangs, portal.seconds = ("crm.deal.get", "crm.deal.update", "event.offline.clear"), 2.0
    parts = Parts(
        portal, redis, tmp_path, read_timeout_seconds=30, call_rules=CallRules(slow_seconds=0.2, late_seconds=0.3)
    )
    crowd = parts.rate_limiter.slots
    elsewhere = [crowd.new("other", ["crm.deal.get"], "run"), crowd.new("other", ["event.offline.clear"], "settle")]
    assert all(map(crowd.share, elsewhere))
    assert seconds_of(lambda: parts.client.call("crm.deal.get")) < 1.5
    assert seconds_of(lambda: parts.client.call("crm.deal.get"), errors.RateLimited) < 0.3  # was not sent again
    assert seconds_of(lambda: parts.client.call("event.offline.clear", kind="settle")) < 1.5
    assert [method for method, _ in portal.calls] == ["crm.deal.get", "event.offline.clear"]
    for one in elsewhere:
        crowd.give_back(one, 0)
    wait_until(lambda: comes(lambda: parts.client.call("crm.deal.get")), "with a place it has its time")
    assert parts.client.call("crm.deal.get") == 4
    assert redis.zcard(keys.suspects("t")) == 0


def comes(call):
    try:
        return call()
    except errors.RateLimited:
        return None


def test_a_late_write_is_waited_for_and_counts_among_the_suspect(portal, redis, tmp_path):
    portal.hangs = ("crm.deal.update",)
    parts = Parts(
        portal, redis, tmp_path, read_timeout_seconds=30, call_rules=CallRules(slow_seconds=0.2, late_seconds=0.3)
    )
    crowd = parts.rate_limiter.slots
    assert crowd.share(crowd.new("other", ["crm.deal.get"], "run"))
    replies = []
    caller = threading.Thread(target=lambda: replies.append(parts.client.call("crm.deal.update")))
    caller.start()
    wait_until(lambda: redis.zcard(keys.suspects("t")) == 2, "the late call is counted")
    assert not crowd.share(crowd.new("third", ["event.offline.list"], "settle"))
    portal.answers.set()
    caller.join()
    assert replies == [1]
    assert redis.zcard(keys.suspects("t")) == 1
