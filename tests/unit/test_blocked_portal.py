"""A portal that refuses for long is left alone: by polls, and by batches that wait to be read."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from celery_bench import broker, deployed
from click.testing import CliRunner
from core_events import entry_of
from served import served
from werkzeug.wrappers import Request, Response

from b24offline.cli import portal as portal_commands
from b24offline.events import PortalState, routes
from b24offline.ledger import BatchKind
from b24offline.rest import BLOCK_SECONDS
from b24offline.tasks import dispatch as dispatching
from b24offline.tasks.dispatch import dispatch
from b24offline.tasks.poll import poll

if TYPE_CHECKING:
    from b24offline.runtime import Runtime

pytestmark = pytest.mark.unit
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
def here(deployed: Callable[..., Runtime], portal: tuple[Refusing, str], monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Two open batches whose objects are to be read."""
    here = deployed(B24_PORTAL_URL=f"{portal[1]}/rest/", B24_AUTH_URL=f"{portal[1]}/oauth/token/")
    for number, process_id in enumerate(("one", "two"), 1):
        here.kit(PORTAL).ledger.open(process_id, [entry_of(number, None, "piped")], kind=BatchKind.POLLED)
    monkeypatch.setattr(dispatching, "fetches", lambda event, pipeline: True)
    monkeypatch.setattr(routes, "pipelines_for", lambda name: ("piped",))
    return here


def ready(here: Runtime, process_id: str) -> int:
    """How long until the sweep starts the run of a batch, in seconds."""
    ledger = here.kit(PORTAL).ledger
    (event,) = ledger.events(process_id).values()
    due = here.redis.zscore(f"{ledger.stem}:due", f"run:{event.delivery}/piped")
    assert due is not None
    return round((due - ledger.now_ms()) / 1000)


def test_a_blocked_portal_has_one_call_whoever_it_was(here: Runtime, refusing: Refusing) -> None:
    assert "waits 60 s" in dispatch(PORTAL, "one")
    assert here.store.portals.get(PORTAL).state is PortalState.ACTIVE, "a dispatch writes no state"
    for _ in range(3):
        dispatch(PORTAL, "one")
        dispatch(PORTAL, "two")
    assert "not polled for 35" in poll(PORTAL)
    assert len(refusing.calls) == 1
    told = here.store.portals.get(PORTAL)
    assert (told.state, told.state_actor) == (PortalState.BLOCKED, "operator")
    assert "blocked for overload" in told.state_reason
    assert 60 < ready(here, "two") <= 120, "the sweep starts it should the message be lost"


def test_a_poll_that_succeeds_ends_the_block(here: Runtime) -> None:
    here.store.portals.set_state(PORTAL, PortalState.BLOCKED, "OVERLOAD_LIMIT", actor="operator")
    here.pace.block(PORTAL, BLOCK_SECONDS)
    here.kit(PORTAL).lifecycle.note_success()
    assert here.pace.blocked(PORTAL, "settle") == 0
    assert here.store.portals.get(PORTAL).state is PortalState.ACTIVE


def test_resuming_ends_a_block(here: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    here.pace.block(PORTAL, BLOCK_SECONDS)
    monkeypatch.setattr(portal_commands, "load_runtime", lambda: here)
    assert CliRunner().invoke(portal_commands.portal, ["resume", PORTAL]).exit_code == 0
    assert here.pace.blocked(PORTAL, "run") == here.pace.blocked(PORTAL, "poll") == 0


def test_after_an_error_that_asks_for_minutes_all_batches_together_read_once(here: Runtime, refusing: Refusing) -> None:
    refusing.answer = (403, {"error": "insufficient_scope"})
    for _ in range(3):
        assert "waits 60 s" in dispatch(PORTAL, "one")
        assert "waits 60 s" in dispatch(PORTAL, "two")
    assert refusing.calls == ["batch"]
    assert ready(here, "one") == pytest.approx(120, abs=5)
    here.redis.pexpire(f"{here.kit(PORTAL).ledger.stem}:unread", 1)
    refusing.answer = (200, {"result": {"result": {"o0": {"ID": "2"}}}})
    threading.Event().wait(0.01)
    assert "waits" not in dispatch(PORTAL, "two")
    assert refusing.calls == ["batch", "batch"]
