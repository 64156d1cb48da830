"""The polls of a portal: one message at a time, however slow the portal and however long its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery.poller import Poller, PollResult
from b24offline.delivery.subscriber import Subscriber
from b24offline.tasks import poll as polling
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
