"""The subscriptions of a portal follow the routes: at once, and again when they had vanished."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.delivery.subscriber import RETRY_SECONDS, Subscriber
from b24offline.errors import PortalError
from b24offline.events import Routes
from b24offline.ledger import RECONCILE
from b24offline.tasks.bind import bind
from tests.support.celery_bench import broker, deployed
from tests.support.live_portal import emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from b24offline.emulator import EmulatorProcess
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed", "emulator"]

DEAL, LEAD = "ONCRMDEALUPDATE", "ONCRMLEADADD"


def routes_for(*events: str) -> Routes:
    routes = Routes()
    for event in events:
        routes.add(lambda event: event, (event,), f"for_{event}")
    return routes


class Bench:
    """One emulated portal that was polled before, and the subscribers of workers with these or those routes."""

    def __init__(self, runtime: Runtime, emulator: EmulatorProcess) -> None:
        self.runtime, self.control = runtime, emulator.control()
        runtime.store.portals.set_epoch("acme", 1)
        self.services = runtime.services("acme")
        self.gaps: list[int] = []

    def subscriber(self, *routed: str, events: tuple[str, ...] = (), enabled: bool = True) -> Subscriber:
        return Subscriber(
            redis=self.runtime.redis,
            ledger=self.services.ledger,
            client=self.services.client,
            routes=routes_for(*routed),
            events=events,
            enabled=enabled,
            look_seconds=3600,
            time_scale=1.0,
            on_gap=self.gaps.append,
        )

    def due(self, subscriber: Subscriber) -> bool:
        """Return whether a sync is due, however lately one was asked for."""
        self.runtime.redis.delete(f"{self.services.ledger.stem}:bound:asked")
        return subscriber.due(self.runtime.store.portals.get("acme"))

    def sync(self, subscriber: Subscriber) -> None:
        subscriber.sync(self.runtime.store.portals.get("acme"))

    def subscribed(self) -> list[str]:
        return sorted(one["event"] for one in self.control.state()["bindings"])


@pytest.fixture
def bench(deployed: Callable[..., Runtime], emulator: EmulatorProcess) -> Iterator[Bench]:
    runtime = deployed(
        B24_PORTAL_URL=emulator.rest,
        B24_AUTH_URL=emulator.auth_url,
        B24_CLIENT_ID=emulator.client_id,
        B24_CLIENT_SECRET=emulator.client_secret,
        B24_REFRESH_TOKEN=emulator.control().issue_token()["refresh_token"],
    )
    yield Bench(runtime, emulator)
    emulator.control().disarm()
    emulator.control().drop_subscriptions()


def test_an_event_with_a_new_route_is_subscribed_at_once(bench: Bench) -> None:
    before, after = bench.subscriber(DEAL), bench.subscriber(DEAL, LEAD)
    assert bench.due(before)
    bench.sync(before)
    assert bench.subscribed() == [DEAL]
    assert not bench.due(before)
    assert bench.due(after)
    bench.sync(after)
    assert bench.subscribed() == [DEAL, LEAD]
    assert not bench.due(after)


def test_a_sync_is_due_once_for_all_workers(bench: Bench) -> None:
    portal = bench.runtime.store.portals.get("acme")
    assert [bench.subscriber(DEAL).due(portal) for _ in range(3)] == [True, False, False]
    assert 0 < bench.runtime.redis.ttl(f"{bench.services.ledger.stem}:bound:asked") <= RETRY_SECONDS


def test_none_is_due_before_the_first_poll_or_when_switched_off(bench: Bench) -> None:
    assert not bench.due(bench.subscriber(DEAL, enabled=False))
    bench.runtime.store.portals.add(
        "new",
        client_endpoint="https://new.example/rest/",
        auth_url="https://auth.example",
        client_id="app",
        client_secret="s",
        connector="b24offline",
        refresh_token="r",
    )
    assert not bench.subscriber(DEAL).due(bench.runtime.store.portals.get("new"))


def test_events_that_are_named_are_subscribed_instead_of_the_routed_ones(bench: Bench) -> None:
    bench.sync(bench.subscriber(DEAL, events=(LEAD,)))
    assert bench.subscribed() == [LEAD]


def test_what_had_vanished_is_told_with_the_time_of_the_last_look(bench: Bench) -> None:
    subscriber = bench.subscriber(DEAL)
    began_ms = bench.services.ledger.now_ms()
    bench.sync(subscriber)
    assert bench.gaps == [], "what was never subscribed has not vanished"
    bench.control.drop_subscriptions()
    bench.sync(subscriber)
    assert bench.subscribed() == [DEAL]
    assert len(bench.gaps) == 1
    assert began_ms <= bench.gaps[0] <= bench.services.ledger.now_ms()
    bench.sync(bench.subscriber(DEAL, LEAD))
    assert len(bench.gaps) == 1, "neither has one with a new route"


def test_a_sync_that_died_counts_as_a_gap(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    subscriber = bench.subscriber(DEAL)
    bench.sync(subscriber)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subscriber, "_nack", die)
    with pytest.raises(KeyboardInterrupt):
        bench.sync(subscriber)
    monkeypatch.undo()
    bench.sync(bench.subscriber(DEAL))
    assert len(bench.gaps) == 1


def test_a_refused_event_makes_the_next_sync_due_sooner(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.sync(bench.subscriber(DEAL, "ONNOSUCHEVENT"))
    assert bench.subscribed() == [DEAL]
    fresh_ms = bench.runtime.redis.pttl(f"{bench.services.ledger.stem}:bound:fresh")
    assert 590_000 < fresh_ms <= 600_000
    assert [vars(one)["event"] for one in caplog.records if one.msg == "event cannot be bound"] == ["ONNOSUCHEVENT"]


def test_a_plan_that_is_too_small_suspends_polling(bench: Bench) -> None:
    bench.control.licence(rest_offline_extended=False)
    try:
        with pytest.raises(PortalError):
            bench.sync(bench.subscriber(DEAL))
        assert bind("acme") == "not bound: PlanTooSmall"
        assert bench.runtime.store.portals.get("acme").state == "plan_too_small"
    finally:
        bench.control.licence(rest_offline_extended=True)


def test_vanished_subscriptions_ask_for_a_reconciliation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.services.subscriber, "_routes", routes_for(DEAL))
    assert bind("acme").startswith("bound 1")
    bench.control.drop_subscriptions()
    assert bind("acme").startswith("bound 1")
    ((_, body),) = bench.services.requests.waiting(RECONCILE).items()
    assert (body["why"], body["deleted"]) == ("subscriptions had vanished", True)
