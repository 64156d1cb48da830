"""Calls and batches against a small HTTP server."""

from __future__ import annotations

import json
import logging

import pytest
from werkzeug.wrappers import Request, Response

from b24offline import errors
from b24offline.rest import Command, Http, RestClient, make_session
from tests.support.served import served

TOKEN = "canary-token-1"


class Portal:
    """Sends the reply that the test set, and records the requests."""

    def __init__(self):
        self.answer = {"result": True}
        self.status = 200
        self.headers = {}
        self.requests = []

    def __call__(self, environ, start_response):
        request = Request(environ)
        self.requests.append((request.method, request.full_path, dict(request.headers), request.get_data()))
        content = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        response = Response(content, self.status, self.headers, content_type="application/json")
        return response(environ, start_response)

    @property
    def sent(self):
        return json.loads(self.requests[-1][3])


@pytest.fixture
def portal():
    app = Portal()
    with served(app) as url:
        app.url = f"{url}/rest/"
        yield app


def client_of(portal, **limits):
    settings = {"connect_timeout_seconds": 2, "read_timeout_seconds": 5, "max_response_bytes": 1 << 20}
    return RestClient("acme", portal.url, Http(make_session(), **{**settings, "loopback_http": True, **limits}))


def test_a_call_posts_json_and_returns_the_result(portal):
    portal.answer = {"result": [{"ID": "1"}], "total": "9" * 5000, "next": "50", "time": {"operating": 0.1}}
    result = client_of(portal).call("crm.deal.list", {"filter": {">ID": 5}, "order": []}, token=TOKEN)
    assert result == [{"ID": "1"}]
    verb, path, headers, _ = portal.requests[-1]
    assert (verb, path.rstrip("?")) == ("POST", "/rest/crm.deal.list")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("b24offline/")
    assert portal.sent == {"filter": {">ID": 5}, "order": [], "auth": TOKEN}


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (b'{"result": {"a": 1, "a": 2}}', {"a": 2}),
        (b'{"result": "nul \\u0000, emoji \\ud83d\\ude00, half \\ud83d"}', "nul \0, emoji \U0001f600, half \ud83d"),
        ('{"result": "\U0001f600"}'.encode(), "\U0001f600"),
        (b'\xef\xbb\xbf{"result": 12345678901234567890123}', 12345678901234567890123),
    ],
)
def test_odd_json_is_read(portal, body, result):
    portal.answer = body
    assert client_of(portal).call("m", {}, token=TOKEN) == result


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b'{"result": [1, 2', b"\xff\xfe\xfa", b"[" * 200_000],
)
def test_an_unreadable_reply_may_have_been_executed(portal, body):
    portal.answer = body
    with pytest.raises(errors.UnknownAnswer) as caught:
        client_of(portal).call("crm.deal.add", {}, token=TOKEN)
    assert caught.value.executed == "unknown"


def test_a_redirect_is_not_followed_and_names_only_the_host(portal):
    portal.status, portal.headers = 302, {"Location": f"{portal.url}other?auth={TOKEN}"}
    with pytest.raises(errors.Moved, match=r"to host 127\.0\.0\.1") as caught:
        client_of(portal).call("crm.deal.add", {}, token=TOKEN)
    assert len(portal.requests) == 1
    assert TOKEN not in str(caught.value)


def test_no_cookie_is_kept(portal):
    portal.headers = {"Set-Cookie": "PHPSESSID=1"}
    client = client_of(portal)
    for _ in range(3):
        client.call("m", {}, token=TOKEN)
    assert "Cookie" not in portal.requests[-1][2]


def test_a_token_is_in_the_body_only(portal, caplog):
    caplog.set_level(logging.DEBUG)
    portal.status = 401
    portal.answer = {"error": "NO_AUTH_FOUND", "error_description": f"unknown token {TOKEN}"}
    client = client_of(portal)
    with pytest.raises(errors.AuthLost) as caught:
        client.call("m", {}, token=TOKEN)
    assert TOKEN in portal.requests[-1][3].decode()
    assert TOKEN not in portal.requests[-1][1] + str(portal.requests[-1][2])
    error = caught.value
    assert TOKEN not in f"{error} {error!r} {error.description} {error.args} {client!r} {caplog.text}"
    assert error.__cause__ is None


@pytest.mark.parametrize("method", ["", "../m", "m?x=1", "a..b", "a/b", "a b", "m\n", ".a"])
def test_a_malformed_method_is_refused_before_sending(portal, method):
    with pytest.raises(ValueError, match="no name of a method"):
        client_of(portal).call(method, {}, token=TOKEN)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("params", "words"), [({"auth": "x"}, "parameter auth"), ({"n": float("nan")}, "JSON compliant")]
)
def test_impossible_parameters_are_refused_before_sending(portal, params, words):
    with pytest.raises(ValueError, match=words):
        client_of(portal).call("m", params, token=TOKEN)
    assert portal.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://portal.example/rest/", "must begin with https"),
        ("http://127.0.0.1.example/rest/", "must begin with https"),
        ("ftp://portal.example/rest/", "must be a web address"),
        ("portal.example", "must be a web address"),
        ("http://[::1/rest/", "is not a web address"),
        ("https://user:hidden@portal.example/rest/", "neither credentials nor a query"),
        ("https://portal.example/rest/?auth=hidden", "neither credentials nor a query"),
    ],
)
def test_an_unsafe_endpoint_is_refused(url, words):
    with pytest.raises(errors.ConfigError, match=words) as caught:
        RestClient("acme", url, Http(make_session(), 1, 1, 1))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("body", ['{"total": ' + "9" * 5000 + ', "result": [1]}', '{"result": [1], "total": 1e999}'])
def test_a_total_of_any_length_leaves_the_result(portal, body):
    portal.answer = body.encode()
    assert client_of(portal).call("m", {}, token="t") == [1]


@pytest.mark.parametrize("result", ["[" + "{}," * 500_000 + "{}]", "[" * 900 + "]" * 900])
def test_an_answer_that_would_fill_memory_is_an_error_of_its_portal(portal, result):
    portal.answer = f'{{"result": {result}}}'.encode()
    with pytest.raises(errors.AnswerTooLarge, match="on portal acme got an answer that is too large") as caught:
        client_of(portal, max_response_bytes=1 << 23).call("m", {}, token="t")
    assert caught.value.executed == "unknown"


def test_plain_http_is_not_sent_unless_asked_for(portal):
    with pytest.raises(errors.Unreachable, match="plain http, and B24_LOOPBACK_HTTP is not set"):
        client_of(portal, loopback_http=False).call("profile", {}, token="t")
    assert client_of(portal).call("profile", {}, token="t") is not None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/rest", "http://localhost/rest/", "http://[::1]/", "https://a.b/rest/"]
)
def test_a_safe_endpoint_is_taken(url):
    RestClient("acme", url, Http(make_session(), 1, 1, 1))


def two_commands():
    return {"a": Command("crm.deal.get", {"id": 7}), "b": Command("crm.lead.get", {"id": "$result[a][ID]"})}


def batch_body(**parts):
    maps = ("result", "result_error", "result_total", "result_next", "result_time")
    return {"result": {**{name: [] for name in maps}, **parts}}


def test_a_batch_sends_command_lines_and_splits_results_from_errors(portal):
    portal.answer = batch_body(
        result={"a": {"ID": "7"}},
        result_error={"b": {"error": "", "error_description": "Not found"}},
    )
    answer = client_of(portal).batch(two_commands(), token=TOKEN)
    assert answer.results == {"a": {"ID": "7"}}
    assert list(answer.errors) == ["b"]
    assert type(answer.errors["b"]) is errors.ObjectNotFound
    assert answer.errors["b"].method == "crm.lead.get"
    assert portal.sent == {
        "halt": 0,
        "cmd": {"a": "crm.deal.get?id=7", "b": "crm.lead.get?id=%24result%5Ba%5D%5BID%5D"},
        "auth": TOKEN,
    }


def test_a_batch_with_numbered_commands_may_answer_with_lists(portal):
    portal.answer = batch_body(result=["x", None])
    commands = {"0": Command("a", {}), "1": Command("b", {}), "2": Command("c", {})}
    answer = client_of(portal).batch(commands, token=TOKEN)
    assert answer.results == {"0": "x", "1": None}
    assert type(answer.errors["2"]) is errors.UnknownAnswer
    assert portal.sent["cmd"]["0"] == "a"


def test_a_command_in_both_maps_has_failed(portal):
    portal.answer = batch_body(result={"a": 1, "b": 2}, result_error={"a": {"error": "X"}})
    answer = client_of(portal).batch(two_commands(), token=TOKEN)
    assert (answer.results, list(answer.errors)) == ({"b": 2}, ["a"])


def test_a_command_in_neither_map_may_have_been_executed(portal):
    portal.answer = batch_body()
    answer = client_of(portal).batch(two_commands(), token=TOKEN)
    assert answer.results == {}
    assert {name: e.executed for name, e in answer.errors.items()} == {"a": "unknown", "b": "unknown"}


@pytest.mark.parametrize("refusal", ["text", None, [], {}, {"error_description": "x"}])
def test_an_unreadable_error_of_a_command_may_have_been_executed(portal, refusal):
    portal.answer = batch_body(result={"b": 1}, result_error={"a": refusal})
    answer = client_of(portal).batch(two_commands(), token=TOKEN)
    assert type(answer.errors["a"]) is errors.UnknownAnswer
    assert answer.results == {"b": 1}


@pytest.mark.parametrize("result", [[], True, None, {"result": 1}, {"result": [], "result_error": "x"}])
def test_a_batch_of_another_shape_may_have_been_executed(portal, result):
    portal.answer = {"result": result}
    with pytest.raises(errors.UnknownAnswer):
        client_of(portal).batch(two_commands(), token=TOKEN)


def test_a_token_in_the_error_of_a_command_is_removed(portal):
    portal.answer = batch_body(result_error={"a": {"error": "X", "error_description": f"is {TOKEN}"}})
    error = client_of(portal).batch(two_commands(), token=TOKEN).errors["a"]
    assert error.description == "is ***"


@pytest.mark.parametrize("count", [0, 51])
def test_a_batch_of_the_wrong_size_is_refused_before_sending(portal, count):
    with pytest.raises(ValueError, match="1 to 50 commands"):
        client_of(portal).batch({str(n): Command("m", {}) for n in range(count)}, token=TOKEN)
    assert portal.requests == []


def test_an_empty_list_in_a_batch_is_refused(portal):
    with pytest.raises(ValueError, match="empty"):
        client_of(portal).batch({"a": Command("m", {"id": []})}, token=TOKEN)
    assert portal.requests == []
