"""The polls of a portal: one message at a time, however slow the portal and however long its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import OperationalError

from b24offline import contract
from b24offline.delivery.poller import Poller, PollResult
from b24offline.delivery.settler import Settler, SettleResult
from b24offline.delivery.subscriber import Subscriber
from b24offline.events import ObservedState
from b24offline.tasks import app
from b24offline.tasks import poll as polling
from b24offline.tasks.settle import settle
from tests.support.celery_bench import broker, deployed

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed"]


def test_a_full_batch_is_followed_by_one_poll_though_ticks_go_on(
    deployed: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, sent = deployed(), list[str]()
    limit = runtime.config.all_lanes["default"].batch_size
    monkeypatch.setattr(Poller, "poll", lambda self, lane: PollResult("opened", limit))
    monkeypatch.setattr(polling.poll, "delay", sent.append)
    monkeypatch.setattr(Subscriber, "due", lambda *_: False)
    polling.tick()
    assert sent == ["acme"]
    assert polling.poll("acme") == f"default opened: {limit}"
    assert sent == ["acme", "acme"]
    # The next poll waits in a queue, or is under way, for longer than the shortest interval.
    due = runtime.redis.zscore(f"{runtime.config.redis_key_prefix}:polls", "acme")
    runtime.redis.zadd(f"{runtime.config.redis_key_prefix}:polls", {"acme": due - 10_000})
    runtime.redis.delete(f"{runtime.config.redis_key_prefix}:once:tick")
    assert polling.tick() == "nothing due"


def test_the_first_poll_of_a_portal_asks_for_its_subscriptions_no_tick_is_waited_for(
    deployed: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, sent = deployed(B24_EVENTS="ONCRMDEALUPDATE"), list[str]()

    def first_poll(self: Poller, lane: object) -> PollResult:
        runtime.store.portals.set_epoch("acme", 1)
        return PollResult("empty", asked=50)

    monkeypatch.setattr(Poller, "poll", first_poll)
    monkeypatch.setattr(polling.poll, "delay", lambda portal: sent.append(f"poll {portal}"))
    monkeypatch.setattr(polling.bind, "delay", lambda portal: sent.append(f"bind {portal}"))
    polling.tick()
    assert sent == ["poll acme"], "nothing is subscribed before the first poll"
    polling.poll("acme")
    assert sent == ["poll acme", "bind acme"]
    runtime._services.clear()  # as after a second, when the portal is read again
    polling.poll("acme")
    assert sent == ["poll acme", "bind acme"], "later polls leave it to the tick"


@pytest.fixture
def full(deployed: Callable[..., Runtime], monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A portal with a lane that was full when it was polled, a moment ago."""
    runtime = deployed(B24_POLL_INTERVAL_MIN_SECONDS="60", B24_POLL_INTERVAL_MAX_SECONDS="60")
    monkeypatch.setattr(Poller, "poll", lambda self, lane: PollResult("full", asked=50))
    monkeypatch.setattr(Settler, "settle", lambda self, process_id: SettleResult("closed", 50))
    assert polling.poll("acme") == "default full: 0"
    assert polling.poll("acme") == "no lane is due"
    return runtime


def test_what_was_settled_makes_room_for_a_poll_at_once(full: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[tuple[str, ...]]()
    monkeypatch.setattr(app, "send_task", lambda name, args, **_: sent.append((name, *args)))
    for process_id in ("p1", "p2"):
        assert settle("acme", process_id) == "closed: 50 acknowledged, 0 nacked, 0 kept"
    assert sent == [(contract.TASK_POLL, "acme")], "one is enough while it waits"
    monkeypatch.setattr(Poller, "poll", lambda self, lane: PollResult("opened", 10, asked=50))
    assert polling.poll("acme") == "default opened: 10"
    sent.clear()
    settle("acme", "p3")
    assert sent == [], "the lane is not full any more"
    del full


def test_a_suspended_portal_keeps_its_back_off(full: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = list[str]()
    monkeypatch.setattr(app, "send_task", lambda name, **_: sent.append(name))
    full.store.portals.set_state("acme", ObservedState.PAUSED, "it does not answer")
    full._services.clear()  # as after a second, when the portal is read again
    settle("acme", "p1")
    assert sent == []


def test_a_broker_that_takes_no_poll_spoils_no_settle(full: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(app, "send_task", refuse)
    assert settle("acme", "p1").startswith("closed")
    assert full.queued.begin(contract.TASK_POLL, ["acme"]), "and none is taken to be under way"
