"""One turn of the redrive: what is due is taken up, whatever becomes of the look at all that is nacked."""

from __future__ import annotations

import time
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from b24offline.config import Config
from b24offline.delivery.redriver import Redriver
from b24offline.errors import RateLimited
from b24offline.events import Routes
from b24offline.rest import QUEUE_PAGE
from b24offline.runtime import Runtime
from b24offline.tasks import redrive as turn
from tests.integration.delivery.test_poller import Bench, nacked
from tests.support.core_events import PORTAL, TIMERS

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from b24offline.supervisor import EmbeddedValkey

FIRST_WAIT = TIMERS.redrive_backoff_seconds[0]
DEALS = QUEUE_PAGE + 10


class Turns:
    """A deployment whose portal holds more nacked records than one page lists."""

    def __init__(self, bench: Bench, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench = bench
        self.sent: list[str] = []
        self.pages = 0
        routes = Routes()
        routes.add(lambda event: event, ("ONCRMDEALUPDATE",), "deal_changed")
        monkeypatch.setattr(turn, "current_runtime", lambda: runtime)
        monkeypatch.setattr(turn.redrive.app, "send_task", self.send)
        self.runtime = runtime
        services = runtime.services(PORTAL)
        self.equip(
            redriver=Redriver(
                portal=PORTAL,
                queue=bench.queue,
                fencing=bench.fencing,
                poller=bench.poller,
                schedule=services.lanes,
                dispatcher=services.dispatcher,
                routes=routes,
                lanes=tuple(runtime.config.all_lanes),
                first_wait_seconds=FIRST_WAIT,
                patience_seconds=runtime.config.tick_seconds,
                once_per=runtime.once_per,
            )
        )

    def equip(self, **parts: Any) -> None:
        services = copy(self.runtime.services(PORTAL))
        vars(services).update(parts)
        self.runtime._services[PORTAL] = (time.monotonic() + 3600, services)

    def send(self, task: str, *, args: tuple[str, str], **_: Any) -> None:
        del task
        self.sent.append(args[1])

    def play(self) -> str:
        """Return the next turn; the look at all is due again."""
        self.pages = 0
        self.bench.later(FIRST_WAIT + 1)
        self.runtime.redis.delete(f"{self.runtime.config.redis_key_prefix}:once:nacked:{PORTAL}")
        reply: Any = turn.redrive(PORTAL)
        return str(reply)

    def refuse_pages_after_the_first(self) -> None:
        def busy(method: str) -> None:
            self.pages += method == "event.offline.list"
            if self.pages > 1:
                raise RateLimited(PORTAL, 9.0)

        self.bench.desk.before = busy


@pytest.fixture
def turns(redis: Redis, valkey: EmbeddedValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turns:
    bench = Bench(redis, tmp_path)
    nacked(bench, *(str(number) for number in range(1, DEALS + 1)))
    runtime = Runtime(Config.load({"B24_REDIS_URL": valkey.url, "B24_DATA_DIR": str(tmp_path)}))
    runtime.__dict__["store"] = bench.store
    return Turns(bench, runtime, monkeypatch)


def test_what_was_seen_before_is_taken_up_a_page_at_a_time(turns: Turns) -> None:
    assert turns.play() == "redriven 0", "seen for the first time"
    assert turns.bench.fencing.nacked_count() == DEALS
    assert turns.play() == f"redriven {QUEUE_PAGE}"
    assert len(turns.sent) == len(set(turns.sent)) == QUEUE_PAGE
    assert turns.play() == f"redriven {DEALS - QUEUE_PAGE}"
    assert turns.play() == "redriven 0"
    assert turns.bench.fencing.nacked_count() == 0


def test_a_portal_too_busy_to_list_them_all_does_not_stop_the_lane(turns: Turns) -> None:
    turns.refuse_pages_after_the_first()
    assert turns.play() == "later: RateLimited"
    assert turns.play() == f"redriven {QUEUE_PAGE}"
    assert len(turns.sent) == QUEUE_PAGE


def test_before_the_first_poll_the_portal_is_not_asked(turns: Turns) -> None:
    turns.equip(portal=replace(turns.runtime.services(PORTAL).portal, ledger_epoch=None))
    assert turns.play() == "not redriven: not polled yet"
    assert turns.bench.desk.calls == []
