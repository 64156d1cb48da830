"""A portal of one token over HTTP, scripted, and the client that calls it, with its rate limiter and its tokens."""

from __future__ import annotations

import json
import threading

import pytest
from werkzeug.wrappers import Request, Response

from b24offline.rest import Http, PortalClient, RateLimiter, RestClient, TokenSource, make_session
from b24offline.store import Cipher, Store
from tests.support.served import served

__all__ = ["Parts", "Portal", "parts", "portal"]


class Portal:
    """Knows one access token at a time; other answers come from ``script``, one for each call."""

    def __init__(self):
        self.issued = 0
        self.expired = False
        self.calls = []
        self.script = []
        self.hangs = ()
        self.answers, self.seconds = threading.Event(), 30.0

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
            self.answers.wait(self.seconds)
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
