"""One turn of the redrive: due records are taken up even if the list of all nacked records fails."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from b24offline import keys
from b24offline.errors import RateLimited
from b24offline.rest import QUEUE_PAGE
from b24offline.tasks import app, process
from b24offline.tasks.redrive import redrive
from tests.support.core_events import PORTAL, PREFIX, TIMERS
from tests.support.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

FIRST_WAIT = TIMERS.redrive_backoff_seconds[0]
DEALS = QUEUE_PAGE + 10


@pytest.fixture
def acme(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Return a deployment whose portal holds more nacked records than one page lists."""
    acme = Deployment(redis, tmp_path)
    acme.nacked(*(str(number) for number in range(1, DEALS + 1)))
    monkeypatch.setattr(process, "_made", {os.getpid(): (acme.runtime, None)})
    return acme


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the process ids whose dispatch was asked for."""
    sent: list[str] = []
    monkeypatch.setattr(app, "send_task", lambda task, *, args, **_: sent.append(args[1]))
    return sent


def turn(acme: Deployment) -> str:
    """Take the next turn, in which the list of all nacked records is due again."""
    acme.later(FIRST_WAIT + 1)
    acme.redis.delete(keys.once_per(PREFIX, f"nacked:{PORTAL}"))
    reply: Any = redrive(PORTAL)
    return str(reply)


def test_what_was_seen_before_is_taken_up_a_page_at_a_time(acme: Deployment, sent: list[str]) -> None:
    assert turn(acme) == "redriven 0", "seen for the first time"
    assert acme.fencing.nacked_count() == DEALS
    assert turn(acme) == f"redriven {QUEUE_PAGE}"
    assert len(sent) == len(set(sent)) == QUEUE_PAGE
    assert turn(acme) == f"redriven {DEALS - QUEUE_PAGE}"
    assert turn(acme) == "redriven 0"
    assert acme.fencing.nacked_count() == 0


def test_a_portal_too_busy_to_list_them_all_does_not_stop_redriving(acme: Deployment, sent: list[str]) -> None:
    pages = 0

    def busy_after_the_first_page(method: str) -> None:
        nonlocal pages
        pages += method == "event.offline.list"
        if pages > 1:
            raise RateLimited(PORTAL, 9.0)

    acme.desk.before = busy_after_the_first_page
    assert turn(acme) == "later: RateLimited"
    pages = 0
    assert turn(acme) == f"redriven {QUEUE_PAGE}"
    assert len(sent) == QUEUE_PAGE


def test_before_the_first_poll_the_portal_is_not_asked(acme: Deployment) -> None:
    acme.store.portals.set_epoch(PORTAL, None)
    acme.runtime._services.clear()
    assert turn(acme) == "not redriven: not polled yet"
    assert acme.desk.calls == []
