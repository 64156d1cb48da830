"""A change of pipelines: an event is subscribed only when no worker lives that would acknowledge it without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery_bench import broker, deployed
from live_portal import emulator

from b24offline import up
from b24offline.config import Config
from b24offline.route_notes import NOTE_SECONDS, not_everywhere, note_routes
from b24offline.routing import Routes
from b24offline.tasks import bind as binding
from b24offline.tasks.bind import bind, bind_if_due, note_own_routes
from b24offline.tasks.poll import tick
from b24offline.tasks.sweep import adopt, sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redis import Redis

    from b24offline.embedded import EmbeddedValkey
    from b24offline.emulator.client import EmulatorProcess
    from b24offline.runtime import Runtime

pytestmark = pytest.mark.unit
__all__ = ["broker", "deployed", "emulator"]

DEAL, LEAD = "ONCRMDEALUPDATE", "ONCRMLEADADD"
NOTES = "b24offline:routes"


def routes_for(*events: str) -> Routes:
    routes = Routes()
    for event in events:
        routes.add(lambda event: event, (event,), f"for_{event}")
    return routes


class Rollout:
    """Workers of two versions in turn, in this process, on one portal that was polled before."""

    def __init__(self, here: Runtime, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.control, self._patch = here, emulator.control(), monkeypatch
        self.asked: list[str] = []
        monkeypatch.setattr(bind, "delay", self.asked.append)
        here.store.set_generation("acme", 1)

    def worker(self, *events: str) -> None:
        """From here on this process is a worker with routes for these events; it has had a tick."""
        self._patch.setattr(binding, "routes", routes_for(*events))
        note_own_routes(self.here)

    def looks(self) -> bool:
        """Another tick asks for the subscriptions when that is due, and they are bound."""
        self.here.redis.delete(*(self.here.redis.keys("*:bound:asked") or ["-"]))
        if not bind_if_due(self.here, "acme"):
            return False
        bind(self.asked.pop())
        return True

    def pass_time(self, seconds: float) -> None:
        """All notes are older by as much, and the turns of before are over."""
        for note, at_ms in self.here.redis.zrange(NOTES, 0, -1, withscores=True):
            self.here.redis.zadd(NOTES, {note: at_ms - seconds * 1000})
        self.here.redis.delete(*(self.here.redis.keys("*:turn:*") or ["-"]))

    def subscribed(self) -> list[str]:
        return sorted(one["event"] for one in self.control.state()["bindings"])


@pytest.fixture
def rollout(
    deployed: Callable[..., Runtime], emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rollout]:
    here = deployed(
        B24_PORTAL_URL=emulator.rest,
        B24_AUTH_URL=emulator.auth_url,
        B24_CLIENT_ID=emulator.client_id,
        B24_CLIENT_SECRET=emulator.client_secret,
        B24_REFRESH_TOKEN=emulator.control().issue_token()["refresh_token"],
    )
    yield Rollout(here, emulator, monkeypatch)
    emulator.control().drop_subscriptions()


def waits(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(one)["events"] for one in caplog.records if one.msg.startswith("events are not subscribed yet")]


def test_a_first_start_subscribes_at_once(rollout: Rollout, caplog: pytest.LogCaptureFixture) -> None:
    rollout.worker(DEAL, LEAD)
    assert rollout.looks()
    assert rollout.subscribed() == [DEAL, LEAD]
    assert waits(caplog) == []


def test_a_new_event_waits_for_the_last_worker_without_a_route(
    rollout: Rollout, caplog: pytest.LogCaptureFixture
) -> None:
    rollout.worker(DEAL)
    rollout.looks()
    rollout.worker(DEAL, LEAD)
    for _ in range(3):
        assert not rollout.looks(), "nothing is asked of the portal meanwhile"
        assert rollout.subscribed() == [DEAL]
    assert waits(caplog) == [LEAD]
    rollout.pass_time(NOTE_SECONDS - 10)
    rollout.worker(DEAL, LEAD)
    assert not rollout.looks()
    rollout.pass_time(11)
    rollout.worker(DEAL, LEAD)
    assert rollout.looks()
    assert rollout.subscribed() == [DEAL, LEAD]


def test_what_is_new_waits_in_the_task_as_well(rollout: Rollout) -> None:
    rollout.worker(DEAL)
    rollout.worker(DEAL, LEAD)
    bind("acme")
    assert rollout.subscribed() == [DEAL]


def test_what_was_subscribed_before_is_bound_again_at_once(rollout: Rollout) -> None:
    rollout.worker(DEAL)
    rollout.looks()
    rollout.control.drop_subscriptions()
    rollout.worker(LEAD)
    rollout.worker(DEAL, LEAD)
    rollout.here.redis.delete(*rollout.here.redis.keys("*:bound:fresh"))
    assert rollout.looks()
    assert rollout.subscribed() == [DEAL]


def test_taking_a_route_away_waits_for_nobody(rollout: Rollout, caplog: pytest.LogCaptureFixture) -> None:
    rollout.worker(DEAL, LEAD)
    rollout.looks()
    rollout.worker(DEAL)
    assert rollout.looks()
    assert waits(caplog) == []


@pytest.mark.parametrize("task", [tick, sweep, lambda: adopt("acme")], ids=["tick", "sweep", "adopt"])
@pytest.mark.parametrize("its_turn", [True, False])
def test_who_takes_a_task_of_the_queue_of_polls_notes_its_routes(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch, task: Callable[[], object], its_turn: bool
) -> None:
    monkeypatch.setattr(binding, "routes", routes_for(DEAL))
    rollout.here.store.set_wish("acme", rollout.here.store.portal("acme").wish.PAUSED)
    if not its_turn:
        rollout.here.turn("tick", 60)
        rollout.here.turn("sweep", 60)
    task()
    assert rollout.here.redis.zrange(NOTES, 0, -1) == [DEAL]


def test_a_route_for_all_smart_processes_is_one_for_each(redis: Redis) -> None:
    base, one = "ONCRMDYNAMICITEMADD", "ONCRMDYNAMICITEMADD_147"
    note_routes(redis, "b24offline", (base,), 60)
    assert not_everywhere(redis, "b24offline", {base, one, LEAD}, 60) == {LEAD}
    note_routes(redis, "b24offline", (one,), 60)
    assert not_everywhere(redis, "b24offline", {base, one}, 60) == {base}
    note_routes(redis, "b24offline", (), 60)
    assert not_everywhere(redis, "b24offline", {base, one}, 60) == {base, one}


def test_old_notes_are_forgotten(redis: Redis) -> None:
    note_routes(redis, "b24offline", (DEAL,), 60)
    redis.zadd(NOTES, {DEAL: redis.zscore(NOTES, DEAL) - 61_000})
    assert not_everywhere(redis, "b24offline", {LEAD}, 60) == set()
    note_routes(redis, "b24offline", (LEAD,), 60)
    assert redis.zrange(NOTES, 0, -1) == [LEAD]
    assert redis.pttl(NOTES) == pytest.approx(60_000, rel=0.1)


def test_one_machine_that_starts_again_waits_for_nobody(valkey: EmbeddedValkey, redis: Redis) -> None:
    config = Config.load({"B24_REDIS_URL": valkey.url})
    note_routes(redis, "b24offline", (DEAL,), 60)
    assert not up._ready(config, valkey, 1), "another process has the port"
    assert redis.exists(NOTES)
    assert up._ready(config, valkey, redis.info("server")["process_id"])
    assert not redis.exists(NOTES)
