"""A portal that refuses for long is left alone: by polls, and by batches that wait to be read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from werkzeug.wrappers import Request, Response

from b24offline.cli import portal as portal_commands
from b24offline.events import ObservedState, routes
from b24offline.ledger import BatchKind
from b24offline.rest import BLOCK_SECONDS
from b24offline.tasks import dispatch as dispatching
from b24offline.tasks.dispatch import dispatch
from b24offline.tasks.poll import poll
from tests.support.celery_bench import broker, deployed
from tests.support.core_events import entry_of
from tests.support.served import served

if TYPE_CHECKING:
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed"]

PORTAL = "acme"


class Refusing:
    """Gives tokens, and refuses every call as it is told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answer: tuple[int, Any] = (503, {"error": "OVERLOAD_LIMIT"})

    def __call__(self, environ: Any, start_response: Any) -> Any:
        path = Request(environ).path
        status, body = 200, {"access_token": "a", "refresh_token": "r", "expires_in": 3600}
        if path.startswith("/rest/"):
            self.calls.append(path.removeprefix("/rest/"))
            status, body = self.answer
        return Response(json.dumps(body), status, content_type="application/json")(environ, start_response)


@pytest.fixture
def portal() -> Iterator[tuple[Refusing, str]]:
    app = Refusing()
    with served(app) as url:
        yield app, url


@pytest.fixture
def refusing(portal: tuple[Refusing, str]) -> Refusing:
    return portal[0]


@pytest.fixture
def runtime(deployed: Callable[..., Runtime], portal: tuple[Refusing, str], monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Two open batches whose objects are to be read."""
    runtime = deployed(
        B24_PORTAL_URL=f"{portal[1]}/rest/", B24_AUTH_URL=f"{portal[1]}/oauth/token/", B24_LOOPBACK_HTTP="true"
    )
    for number, process_id in enumerate(("one", "two"), 1):
        runtime.services(PORTAL).ledger.open(process_id, [entry_of(number, None, "piped")], kind=BatchKind.POLLED)
    monkeypatch.setattr(dispatching, "fetches", lambda event, pipeline: True)
    monkeypatch.setattr(routes, "pipelines_for", lambda name: ("piped",))
    return runtime


def ready(runtime: Runtime, process_id: str) -> int:
    """Return how long until the sweep starts the run of a batch, in seconds."""
    ledger = runtime.services(PORTAL).ledger
    (event,) = ledger.events(process_id).values()
    due = runtime.redis.zscore(f"{ledger.stem}:due", f"run:{event.delivery}/piped")
    assert due is not None
    return round((due - ledger.now_ms()) / 1000)


def test_a_blocked_portal_has_one_call_whoever_it_was(runtime: Runtime, refusing: Refusing) -> None:
    assert "waits 60 s" in dispatch(PORTAL, "one")
    assert runtime.store.portals.get(PORTAL).state is ObservedState.ACTIVE, "a dispatch writes no state"
    for _ in range(3):
        dispatch(PORTAL, "one")
        dispatch(PORTAL, "two")
    assert "not polled for 35" in poll(PORTAL)
    assert len(refusing.calls) == 1
    reply = runtime.store.portals.get(PORTAL)
    assert (reply.state, reply.state_actor) == (ObservedState.BLOCKED, "operator")
    assert "blocked for overload" in reply.state_reason
    assert 60 < ready(runtime, "two") <= 120, "the sweep starts it should the message be lost"


def test_a_poll_that_succeeds_ends_the_block(runtime: Runtime) -> None:
    runtime.store.portals.set_state(PORTAL, ObservedState.BLOCKED, "OVERLOAD_LIMIT", actor="operator")
    runtime.rate_limiter.block(PORTAL, BLOCK_SECONDS)
    runtime.services(PORTAL).lifecycle.note_success()
    assert runtime.rate_limiter.take(PORTAL, "settle").why == "go"
    assert runtime.store.portals.get(PORTAL).state is ObservedState.ACTIVE


def test_resuming_ends_a_block(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("B24_DATA_DIR", str(tmp_path))  # of the audit log
    runtime.rate_limiter.block(PORTAL, BLOCK_SECONDS)
    monkeypatch.setattr(portal_commands, "load_runtime", lambda: runtime)
    assert CliRunner().invoke(portal_commands.portal, ["resume", PORTAL]).exit_code == 0
    assert {runtime.rate_limiter.take(PORTAL, kind).why for kind in ("run", "poll")} == {"go"}


def test_after_an_error_that_asks_for_minutes_all_batches_together_read_once(
    runtime: Runtime, refusing: Refusing
) -> None:
    refusing.answer = (403, {"error": "insufficient_scope"})
    for _ in range(3):
        assert "waits 60 s" in dispatch(PORTAL, "one")
        assert "waits 60 s" in dispatch(PORTAL, "two")
    assert refusing.calls == ["batch"]
    assert ready(runtime, "one") == pytest.approx(120, abs=5)
    runtime.redis.pexpire(f"{runtime.services(PORTAL).ledger.stem}:unread", 1)
    refusing.answer = (200, {"result": {"result": {"o0": {"ID": "2"}}}})
    threading.Event().wait(0.01)
    assert "waits" not in dispatch(PORTAL, "two")
    assert refusing.calls == ["batch", "batch"]
