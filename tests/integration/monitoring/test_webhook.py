"""Issues reach the webhook signed and once; one that fails is sent again later, and no flood reaches it."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from b24offline.config import Config
from b24offline.errors import ConfigError
from b24offline.monitoring import IssueCode, IssueWebhook
from b24offline.monitoring.alarms import log_changes
from b24offline.monitoring.health import Issue
from b24offline.monitoring.webhook import MOST_AT_ONCE, MOST_WAITING, wait_seconds
from b24offline.rest import Http, make_session
from b24offline.runtime import Runtime
from tests.support.core_events import PREFIX, ledger_on
from tests.support.tls import TlsServer, certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

SECRET = "canary-secret"
LETTERS = Issue(IssueCode.DEAD_LETTERS, "operator", "3 dead letters wait for a decision.")
REFUSED = Issue(IssueCode.SUBSCRIPTION_REFUSED, "operator", "The portal refuses to subscribe ONA.", "ONA")


@dataclass
class Receiver:
    port: int = 0
    status: int = 204
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.got.append((dict(self.headers), body))
            self.send_response(receiver.status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.port = server.server_port
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def webhook(redis: Redis, url: str, *, ca_file: str | None = None, clock: Clock | None = None) -> IssueWebhook:
    http = Http(make_session(ca_file), 2.0, 2.0, 65_536, loopback_http=True)
    return IssueWebhook(redis, PREFIX, http, url, SECRET, clock=clock or Clock())


def to(receiver: Receiver, redis: Redis, clock: Clock | None = None) -> IssueWebhook:
    return webhook(redis, f"http://127.0.0.1:{receiver.port}/hook", clock=clock)


def try_again_now(redis: Redis) -> None:
    assert redis.delete(f"{PREFIX}:webhook:wait")


def test_an_issue_is_sent_when_it_begins_and_when_it_is_over(redis: Redis) -> None:
    ledger = ledger_on(redis)
    with receiving() as receiver:
        hook = to(receiver, redis)
        for issues in ((LETTERS, REFUSED), (LETTERS, REFUSED), (LETTERS, REFUSED), (LETTERS,), (LETTERS,)):
            log_changes(redis, ledger, issues, hook)
            hook.send()
    seen = [{name: value for name, value in body.items() if name not in ("id", "at")} for body in receiver.bodies]
    parts = {"portal": "acme", "actor": "operator"}
    refused = {"code": "subscription_refused", "subject": "ONA", "issue": REFUSED.message, **parts}
    assert seen == [
        {"event": "begins", "code": "dead_letters", "subject": "", "issue": LETTERS.message, **parts},
        {"event": "begins", **refused},
        {"event": "over", **refused},
    ]
    assert len({body["id"] for body in receiver.bodies}) == 3


def test_timestamp_and_body_are_signed(redis: Redis) -> None:
    with receiving() as receiver:
        hook = to(receiver, redis)
        hook.note("begins", {"code": "orphans"})
        assert hook.send() == 1
    ((headers, body),) = receiver.got
    timestamp = headers["X-B24Offline-Timestamp"]
    wanted = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-B24Offline-Signature"] == f"v1={wanted}"
    assert timestamp == "1000000"
    assert SECRET.encode() not in body


@pytest.mark.parametrize("status", [500, 404, 302])
def test_what_is_not_taken_is_sent_again_after_growing_waits(redis: Redis, status: int) -> None:
    with receiving() as receiver:
        hook, receiver.status = to(receiver, redis), status
        for code in ("orphans", "oversized"):
            hook.note("begins", {"code": code})
        assert (hook.send(), hook.send(), len(receiver.got)) == (0, 0, 1), "it is not tried again at once"
        assert 50_000 < redis.pttl(f"{PREFIX}:webhook:wait") <= 60_000
        try_again_now(redis)
        assert hook.send() == 0
        assert 110_000 < redis.pttl(f"{PREFIX}:webhook:wait") <= 120_000
        try_again_now(redis)
        receiver.status = 200
        assert hook.send() == 2
    codes = [body["code"] for body in receiver.bodies]
    assert codes == ["orphans", "orphans", "orphans", "oversized"]
    assert len({body["id"] for body in receiver.bodies[:3]}) == 1
    assert not redis.keys(f"{PREFIX}:webhook*")


def test_waits_grow_to_an_hour() -> None:
    assert [wait_seconds(failed) for failed in (1, 2, 3, 7, 10_000)] == [60, 120, 240, 3600, 3600]


def test_what_was_not_taken_for_a_day_is_dropped(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with receiving() as receiver:
        hook = to(receiver, redis, clock)
        hook.note("begins", {"code": "orphans"})
        clock.now += 86_401
        hook.note("begins", {"code": "oversized"})
        assert hook.send() == 1
    assert [body["code"] for body in receiver.bodies] == ["oversized"]
    assert "issue not sent, the webhook takes none" in caplog.text


def test_of_a_flood_a_part_is_kept_and_sent_turn_by_turn(redis: Redis) -> None:
    with receiving() as receiver:
        hook = to(receiver, redis)
        for number in range(MOST_WAITING + 7):
            hook.note("begins", {"code": "portal_state", "portal": f"p{number}"})
        assert hook.send() == MOST_AT_ONCE
        assert len(receiver.got) == MOST_AT_ONCE
        while hook.send():
            pass
    assert len(receiver.got) == MOST_WAITING
    assert [body["dropped"] for body in receiver.bodies if "dropped" in body] == [7]


def test_a_certificate_of_nobody_known_gets_nothing(redis: Redis, tmp_path: Path) -> None:
    known, other = certificate(tmp_path / "a"), certificate(tmp_path / "b")
    with receiving() as receiver, TlsServer(known, receiver.port) as tls:
        url = f"https://127.0.0.1:{tls.port}/hook"
        hook = webhook(redis, url, ca_file=other.pem)
        hook.note("begins", {"code": "orphans"})
        assert (hook.send(), receiver.got, tls.said) == (0, [], 0)
        try_again_now(redis)
        assert webhook(redis, url, ca_file=known.pem).send() == 1
    assert [body["code"] for body in receiver.bodies] == ["orphans"]


def test_a_receiver_that_is_not_there_loses_nothing(redis: Redis) -> None:
    with receiving() as receiver:
        port = receiver.port
    hook = webhook(redis, f"http://127.0.0.1:{port}/hook")
    hook.note("begins", {"code": "orphans"})
    assert hook.send() == 0
    assert redis.llen(f"{PREFIX}:webhook") == 1


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"URL": "https://alarms.example/x"}, "B24_ISSUE_WEBHOOK_SECRET"),
        ({"URL": "http://alarms.example/x", "SECRET": "s"}, "must begin with https://"),
        ({"URL": "http://127.0.0.1/x", "SECRET": "s"}, "B24_LOOPBACK_HTTP"),
        ({"URL": "https://user:pass@alarms.example/", "SECRET": "s"}, "credentials"),
    ],
)
def test_an_unsafe_configuration_is_refused(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Config.load({f"B24_ISSUE_WEBHOOK_{name}": value for name, value in given.items()})


def test_the_runtime_has_one_where_it_is_configured(tmp_path: Path) -> None:
    settings = {"B24_DATA_DIR": str(tmp_path), "B24_ISSUE_WEBHOOK_URL": "https://alarms.example/canary-path"}
    assert Runtime(Config.load({"B24_DATA_DIR": str(tmp_path)})).webhook is None
    config = Config.load({**settings, "B24_ISSUE_WEBHOOK_SECRET": SECRET})
    assert "canary" not in repr(config)
    assert isinstance(Runtime(config).webhook, IssueWebhook)
