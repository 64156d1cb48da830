"""Rate limit, refresh and replay, against a small server that is portal and authorization server at once."""

from __future__ import annotations

import threading

import pytest

from b24offline import errors, keys
from b24offline.rest import Command, retry_expired_token
from tests.support.http_portal import Parts, parts, portal

__all__ = ["parts", "portal"]


def test_a_call_brings_its_answer(portal, parts):
    assert parts.client.call("profile") == 1
    assert portal.calls == [("profile", "a1")]


def test_an_expired_token_is_refreshed_and_the_call_replayed_once(portal, parts):
    parts.client.call("m")
    portal.expired = True
    assert parts.client.call("crm.deal.add", {"fields": {}}, kind="settle") == 3
    assert portal.calls[1:] == [("crm.deal.add", "a1"), ("crm.deal.add", "a2")]


def test_all_waiting_is_over_when_a_slot_opens(portal, redis, tmp_path):
    """The block runs behind every wait, and once more from its start behind those of a refresh."""
    parts = Parts(portal, redis, tmp_path, requests_per_second=0.5, burst=1, max_wait_seconds=9.0)
    parts.client.call("m")
    portal.expired = True
    reply = []
    parts.client._sleep = lambda seconds: (reply.append("wait"), threading.Event().wait(seconds))

    @retry_expired_token
    def add():
        with parts.client.slot("crm.deal.add") as send:
            reply.append(f"open, {len(portal.calls)} sent, {portal.issued} tokens")
            return send({"fields": {}})

    assert add() == 3
    assert reply == ["wait", "open, 1 sent, 1 tokens", "wait", "open, 2 sent, 2 tokens"]


def test_who_has_no_right_any_more_sends_nothing(portal, parts):
    parts.client.call("m")
    with parts.client.slot("event.offline.error", kind="settle"):
        pass
    assert portal.calls == [("m", "a1")]


def test_a_slot_is_good_for_one_request_inside_its_block(portal, parts):
    with parts.client.slot("m") as send:
        send({})
        with pytest.raises(RuntimeError, match="nothing was sent"):
            send({})
    with parts.client.slot("m") as unused:
        pass
    with pytest.raises(RuntimeError, match="nothing was sent"):
        unused({})
    assert len(portal.calls) == 1


def test_after_a_request_that_failed_a_slot_is_used_up(portal, parts):
    portal.script = [(500, {"error": "INTERNAL_SERVER_ERROR"})]
    with parts.client.slot("m") as send:
        with pytest.raises(errors.ServerError):
            send({})
        with pytest.raises(RuntimeError, match="nothing was sent"):
            send({})
    assert len(portal.calls) == 1


def test_a_token_known_to_be_expired_is_changed_before_a_slot_opens(portal, parts):
    parts.client.call("m")
    portal.expired = True
    with pytest.raises(errors.ExpiredToken), parts.client.slot("m") as send:
        send({})
    with parts.client.slot("m") as send:
        assert portal.issued == 2
        send({})
    assert portal.calls == [("m", "a1"), ("m", "a1"), ("m", "a2")]


def test_a_batch_is_replayed_too(portal, parts):
    parts.client.call("m")
    portal.expired = True
    portal.script = [(200, {"result": {"result": {"x": 5}}})]
    assert parts.client.batch({"x": Command("a", {})}).results == {"x": 5}
    assert portal.calls[1:] == [("batch", "a1"), ("batch", "a2")]


def test_a_second_expired_token_is_raised(portal, parts):
    portal.script = [(401, {"error": "expired_token"})] * 5
    with pytest.raises(errors.ExpiredToken):
        parts.client.call("m")
    assert len(portal.calls) == 2
    assert portal.issued == 2


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (500, {"error": "INTERNAL_SERVER_ERROR"}, errors.ServerError),
        (502, b"<html>", errors.UnknownAnswer),
        (200, b'{"result"', errors.UnknownAnswer),
        (503, {"error": "QUERY_LIMIT_EXCEEDED"}, errors.QueryLimitExceeded),
        (503, {"error": "OVERLOAD_LIMIT"}, errors.Overloaded),
        (429, {"error": "OPERATION_TIME_LIMIT"}, errors.OperationTimeLimit),
        (401, {"error": "NO_AUTH_FOUND"}, errors.AuthLost),
        (400, {"error": "ERROR_ARGUMENT"}, errors.BadRequest),
    ],
)
def test_nothing_else_is_sent_twice(portal, parts, status, body, kind):
    portal.script = [(status, body)]
    with pytest.raises(kind):
        parts.client.call("m")
    assert len(portal.calls) == 1
    assert portal.issued == 1


def test_a_503_slows_all_processes_down(portal, parts):
    portal.script = [(503, {"error": "QUERY_LIMIT_EXCEEDED"})]
    with pytest.raises(errors.QueryLimitExceeded):
        parts.client.call("m")
    with pytest.raises(errors.RateLimited) as caught:
        parts.client.call("other", kind="settle")
    assert caught.value.wait_seconds == pytest.approx(5, abs=1)
    assert len(portal.calls) == 1


@pytest.mark.parametrize("kind", ["run", "poll", "settle"])
def test_a_blocked_portal_is_not_called_within_the_hour(portal, parts, redis, kind):
    portal.script = [(503, {"error": "OVERLOAD_LIMIT"})]
    with pytest.raises(errors.Overloaded):
        parts.client.call("m", kind=kind)
    for other in ("run", "poll", "settle"):
        with pytest.raises(errors.RateLimited, match="blocked for overload") as caught:
            parts.client.call("other", kind=other)
        assert caught.value.wait_seconds == pytest.approx(3540 if other == "poll" else 3660, abs=5)
    with pytest.raises(errors.RateLimited):
        parts.client.batch({"a": Command("other", {})})
    assert len(portal.calls) == 1
    assert parts.slept == []


def test_after_a_block_a_poll_goes_first(portal, parts, redis):
    portal.script = [(503, {"error": "OVERLOAD_LIMIT"})]
    with pytest.raises(errors.Overloaded):
        parts.client.call("m")
    of_polls, of_others = (keys.rate_blocked("t", "acme", polls=polls) for polls in (True, False))
    assert 0 < redis.pttl(of_polls) < redis.pttl(of_others)
    redis.delete(of_polls)
    assert parts.client.call("event.offline.get", kind="poll") == 2
    with pytest.raises(errors.RateLimited):
        parts.client.call("m")
    redis.delete(of_others)
    assert parts.client.call("m") == 3


def test_a_block_in_one_command_of_a_batch_counts(portal, parts):
    portal.script = [(200, {"result": {"result": [], "result_error": {"a": {"error": "OVERLOAD_LIMIT"}}}})]
    assert set(parts.client.batch({"a": Command("m", {})}).errors) == {"a"}
    assert parts.rate_limiter.take("acme", "settle").why == "blocked"


def test_a_429_pauses_that_method_only(portal, parts, redis):
    until = redis.time()[0] + 90
    portal.script = [(429, {"error": "OPERATION_TIME_LIMIT", "time": {"operating_reset_at": until}})]
    with pytest.raises(errors.OperationTimeLimit):
        parts.client.call("crm.deal.list")
    with pytest.raises(errors.RateLimited) as caught:
        parts.client.call("crm.deal.list")
    assert caught.value.wait_seconds == pytest.approx(90, abs=2)
    with pytest.raises(errors.RateLimited):
        parts.client.batch({"a": Command("crm.lead.list", {}), "b": Command("crm.deal.list", {})})
    assert parts.client.call("crm.lead.list") == 2


def test_limits_of_single_commands_are_obeyed(portal, parts):
    refusals = {"a": {"error": "OPERATION_TIME_LIMIT"}, "b": {"error": "QUERY_LIMIT_EXCEEDED"}}
    portal.script = [(200, {"result": {"result": [], "result_error": refusals}})]
    answer = parts.client.batch({"a": Command("slow.one", {}), "b": Command("other", {})})
    assert set(answer.errors) == {"a", "b"}
    assert parts.rate_limiter.take("acme", "settle", ["slow.one"]).wait_seconds > 50
    assert 3 < parts.rate_limiter.take("acme", "settle", ["other"]).wait_seconds < 50


def test_a_limit_of_whole_batches_pauses_them(portal, parts):
    portal.script = [(429, {"error": "OPERATION_TIME_LIMIT"})]
    with pytest.raises(errors.OperationTimeLimit):
        parts.client.batch({"a": Command("one", {})})
    with pytest.raises(errors.RateLimited):
        parts.client.batch({"a": Command("another", {})})
    assert parts.client.call("another") == 2


def test_short_waits_are_slept_and_long_ones_raised(portal, redis, tmp_path):
    parts = Parts(portal, redis, tmp_path, requests_per_second=0.5, burst=1, max_wait_seconds=3.0)
    parts.client._sleep = lambda seconds: (parts.slept.append(seconds), threading.Event().wait(seconds))
    for _ in range(2):
        parts.client.call("m")
    assert parts.slept
    assert 0 < sum(parts.slept) <= 2.01
    parts.rate_limiter.slow_down("acme", 20)
    parts.slept.clear()
    with pytest.raises(errors.RateLimited):
        parts.client.call("m")
    assert parts.slept == []


def test_the_sleeps_of_one_call_add_up(portal, redis, tmp_path):
    parts = Parts(portal, redis, tmp_path, burst=1, requests_per_second=0.1, max_wait_seconds=25)
    parts.rate_limiter.take("acme", "run")
    with pytest.raises(errors.RateLimited):  # its sleep returns at once, so the wait stays about 10 s
        parts.client.call("m")
    assert 2 <= len(parts.slept) <= 3
    assert portal.calls == []
