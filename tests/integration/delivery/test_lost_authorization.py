"""A portal's 401 is not the end of its refresh token; the authorization server's refusal is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.wrappers import Request, Response

from b24offline import errors
from b24offline.events import ObservedState
from b24offline.tasks.poll import poll
from tests.support.celery_bench import broker, deployed
from tests.support.served import served

if TYPE_CHECKING:
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed"]

PORTAL = "acme"


class Portal:
    """A queue that is empty, and an authorization server. Each refuses what it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.issued = 0
        self.asked: list[str] = []
        self.dead: set[str] = set()
        self.expired: set[str] = set()
        self.trouble: list[str] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        request = Request(environ)
        status, body = self.token(request) if request.path == "/oauth/token/" else self.rest(request)
        return Response(json.dumps(body), status, content_type="application/json")(environ, start_response)

    def token(self, request: Request) -> tuple[int, Any]:
        given = request.args["refresh_token"]
        self.asked.append(given)
        if given in self.dead:
            return 400, {"error": "invalid_grant"}
        self.issued += 1
        self.dead.add(given)
        return 200, {"access_token": f"a{self.issued}", "refresh_token": f"r{self.issued}", "expires_in": 3600}

    def rest(self, request: Request) -> tuple[int, Any]:
        if self.trouble:
            return 401, {"error": self.trouble.pop(0)}
        if request.get_json()["auth"] in self.expired:
            return 401, {"error": "expired_token"}
        listed = request.path.endswith("list")
        return 200, {"result": [] if listed else {"process_id": None, "events": []}}


@pytest.fixture
def portal() -> Iterator[Portal]:
    app = Portal()
    with served(app) as url:
        app.url = url
        yield app


@pytest.fixture
def runtime(deployed: Callable[..., Runtime], portal: Portal) -> Runtime:
    """A portal that was polled once, with the pair a1, r1."""
    runtime = deployed(
        B24_PORTAL_URL=f"{portal.url}/rest/",
        B24_AUTH_URL=f"{portal.url}/oauth/token/",
        B24_LOOPBACK_HTTP="true",
        B24_REFRESH_TOKEN="r0",
        B24_AUTO_SUBSCRIBE="false",
    )
    assert "empty" in polled(runtime)
    return runtime


def polled(runtime: Runtime) -> str:
    runtime.redis.delete(f"{runtime.services(PORTAL).ledger.stem}:lanes")
    return poll(PORTAL)


def state(runtime: Runtime) -> ObservedState:
    return runtime.store.portals.get(PORTAL).state


def test_after_a_passing_401_an_expired_token_is_refreshed(runtime: Runtime, portal: Portal) -> None:
    portal.trouble = ["NO_AUTH_FOUND"]
    assert "AuthLost" in polled(runtime)
    assert state(runtime) is ObservedState.AUTH_LOST
    portal.expired = {"a1"}
    assert "empty" in polled(runtime)
    assert state(runtime) is ObservedState.ACTIVE
    assert portal.asked == ["r0", "r1"]


def test_after_a_passing_401_the_next_poll_that_succeeds_ends_it(runtime: Runtime, portal: Portal) -> None:
    portal.trouble = ["NO_AUTH_FOUND"]
    assert "AuthLost" in polled(runtime)
    assert "empty" in polled(runtime)
    assert state(runtime) is ObservedState.ACTIVE
    assert portal.asked == ["r0"]


@pytest.mark.parametrize("before", [[], ["NO_AUTH_FOUND"]])
def test_a_refused_refresh_token_is_not_tried_again(runtime: Runtime, portal: Portal, before: list[str]) -> None:
    portal.trouble, portal.expired = before, {"a1"}
    portal.dead.add("r1")
    for _ in range(4):
        assert "AuthLost" in polled(runtime)
    assert state(runtime) is ObservedState.AUTH_LOST
    assert portal.asked == ["r0", "r1"]
    with pytest.raises(errors.AuthLost, match="not tried again"):
        runtime.tokens.refresh(PORTAL, "a1")
    # Whatever becomes of the state: the token stays refused.
    runtime.store.portals.set_state(PORTAL, ObservedState.ACTIVE)
    assert "AuthLost" in polled(runtime)
    assert (state(runtime), portal.asked) == (ObservedState.AUTH_LOST, ["r0", "r1"])
    runtime.store.tokens.authorize(PORTAL, "new")
    runtime.tokens.forget(PORTAL)
    assert "empty" in polled(runtime)
    assert (state(runtime), portal.asked[-1]) == (ObservedState.ACTIVE, "new")
