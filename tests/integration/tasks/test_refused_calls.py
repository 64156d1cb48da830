"""Work whose call finds no slot returns, and comes back: by a message when soon, else by its due time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from b24offline.errors import PortalError, RateLimited, UnknownAnswer
from b24offline.rest import NotAnswering, PortalBlocked
from b24offline.tasks import dispatch as dispatching
from b24offline.tasks import process
from b24offline.tasks.celery_app import app
from b24offline.tasks.dispatch import dispatch
from b24offline.tasks.settle import settle
from tests.support.core_events import PORTAL, TIMERS
from tests.support.deployment import LANE, Deployment
from tests.support.portal_desk import PortalDesk, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

CLEAR = "event.offline.clear"


class Unread(PortalDesk):
    """Refuses to read objects."""

    error: Exception = RateLimited(PORTAL, 7.0)

    def batch(self, commands: Any, *, kind: str = "run", waits: bool = True) -> Any:
        assert (kind, waits) == ("run", False)
        raise self.error


@pytest.fixture
def acme(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    desk = Unread()
    acme = Deployment(redis, tmp_path, client=desk)
    acme.desk = desk
    monkeypatch.setattr(process, "_made", {os.getpid(): (acme.runtime, None)})
    return acme


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
    """Return the messages, without their arguments, and their waits."""
    sent: list[tuple[str, float | None]] = []
    record = lambda name, *, countdown=None, **_: sent.append((name.rpartition(".")[2], countdown))  # noqa: E731
    monkeypatch.setattr(app, "send_task", record)
    return sent


@pytest.mark.parametrize(
    ("error", "messages", "due_seconds"),
    [
        (RateLimited(PORTAL, 0.3), [("settle", 0.3)], TIMERS.settle_due_seconds),
        (NotAnswering(PORTAL, 20.0), [], 20.0),
        (PortalBlocked(PORTAL, 3600.0), [], TIMERS.settle_due_seconds),
        (refusal(UnknownAnswer, CLEAR), [], TIMERS.settle_due_seconds),
        (refusal(PortalError, CLEAR), [], TIMERS.settle_due_seconds),
    ],
)
def test_a_refused_settle_comes_again(acme: Deployment, sent: list[Any], error: Any, messages: Any, due_seconds: float):
    pid = acme.batch("s")
    acme.desk.refuse[CLEAR] = error
    assert settle(PORTAL, pid) == f"later: {type(error).__name__}"
    assert sent == messages
    assert due_seconds - 10 < acme.due_seconds(f"batch:{pid}") <= due_seconds


@pytest.mark.parametrize("error", [RateLimited(PORTAL, 7.0), NotAnswering(PORTAL, 40.0)])
def test_a_dispatch_without_a_slot_keeps_the_batchs_place(
    acme: Deployment, sent: list[Any], error: RateLimited, monkeypatch: pytest.MonkeyPatch
):
    """Its runs are handed out later, all of them, and none is late meanwhile."""
    acme.desk.error = error
    monkeypatch.setattr(dispatching, "fetches", lambda event, pipeline: True)
    acme.changes("1", "2")
    (pid,) = acme.poller.poll(LANE).opened
    assert str(dispatch(PORTAL, pid)).startswith(f"waits {error.wait_seconds:.0f} s")
    assert sent == [("dispatch", error.wait_seconds)]
    acme.later(error.wait_seconds)
    assert acme.ledger.take_overdue().runs == ()
    assert len(acme.ledger.start(pid)) == 2
