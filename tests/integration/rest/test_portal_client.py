"""Rate limit, refresh and replay, against a small server that is portal and authorization server at once."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext

import pytest
from werkzeug.wrappers import Request, Response

from b24offline import errors, keys
from b24offline.rest import (
    CallRules,
    Command,
    Http,
    NotAnswering,
    PortalClient,
    RateLimiter,
    RestClient,
    TokenSource,
    make_session,
    retry_expired_token,
)
from b24offline.store import Cipher, Store
from tests.support.served import served
from tests.support.waiting import wait_until


class Portal:
    """Knows one access token at a time; other answers come from ``script``, one for each call."""

    def __init__(self):
        self.issued = 0
        self.expired = False
        self.calls = []
        self.script = []
        self.hangs = ()
        self.answers = threading.Event()

    def __call__(self, environ, start_response):
        request = Request(environ)
        status, body = self.token() if request.path == "/oauth/token/" else self.rest(request)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Response(content, status, content_type="application/json")(environ, start_response)

    def token(self):
        self.issued += 1
        self.expired = False
        pair = {"access_token": f"a{self.issued}", "refresh_token": f"r{self.issued}", "expires_in": 3600}
        return 200, pair

    def rest(self, request):
        params = request.get_json()
        method = request.path.removeprefix("/rest/")
        self.calls.append((method, params["auth"]))
        if method in self.hangs:
            self.answers.wait(30)
        if self.expired or params["auth"] != f"a{self.issued}":
            return 401, {"error": "expired_token", "error_description": "The access token has expired"}
        return self.script.pop(0) if self.script else (200, {"result": len(self.calls)})


@pytest.fixture
def portal():
    app = Portal()
    with served(app) as url:
        app.url = url
        yield app


class Parts:
    """A client with its parts, and the waits that it slept."""

    def __init__(self, portal, redis, tmp_path, max_wait_seconds=2.0, read_timeout_seconds=5, **rate_limiter):
        store = Store(f"sqlite:///{tmp_path}/b24.db", Cipher(["A" * 43 + "="]))
        store.create_schema()
        store.portals.seed(
            "acme",
            client_endpoint=f"{portal.url}/rest/",
            auth_url=f"{portal.url}/oauth/token/",
            client_id="i",
            client_secret="s",
            connector="c",
            refresh_token="r0",
        )
        http = Http(
            make_session(),
            connect_timeout_seconds=2,
            read_timeout_seconds=read_timeout_seconds,
            max_response_bytes=10_000,
            loopback_http=True,
        )
        self.tokens = TokenSource(store.tokens, http)
        self.rate_limiter = RateLimiter(
            redis, key_prefix="t", **{"requests_per_second": 0.1, "burst": 20, **rate_limiter}
        )
        self.slept = []
        self.client = PortalClient(
            RestClient("acme", f"{portal.url}/rest/", http),
            self.tokens,
            self.rate_limiter,
            "acme",
            max_wait_seconds=max_wait_seconds,
            sleep=self.slept.append,
        )


@pytest.fixture
def parts(portal, redis, tmp_path):
    return Parts(portal, redis, tmp_path)


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
