"""The subscriptions of a portal follow the routes: at once, and again when they had vanished."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from b24offline import keys
from b24offline.delivery.subscriber import RETRY_SECONDS
from b24offline.errors import PortalError
from b24offline.ledger import RECONCILE
from b24offline.tasks import process
from b24offline.tasks.bind import bind
from tests.support.core_events import PORTAL
from tests.support.deployment import Deployment, routes_for
from tests.support.live_portal import LivePortal, emulator, live

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis import Redis

__all__ = ["emulator", "live"]

DEAL, LEAD = "ONCRMDEALUPDATE", "ONCRMLEADADD"


@pytest.fixture
def make(live: LivePortal, redis: Redis, tmp_path: Path) -> Callable[..., Deployment]:
    """Make deployments at one emulated portal, with these or those routes."""

    def deployment(*routed: str, **variables: str) -> Deployment:
        return Deployment(redis, tmp_path, client=live.client, routes=routes_for(*routed), **variables)

    return deployment


@pytest.fixture
def acme(make: Callable[..., Deployment]) -> Deployment:
    return make(DEAL)


def due(acme: Deployment) -> bool:
    """Return whether a sync is due, however lately one was asked for."""
    acme.redis.delete(keys.bound(acme.ledger.stem, "asked"))
    return acme.services.subscriber.due(acme.store.portals.get(PORTAL))


def sync(acme: Deployment) -> None:
    acme.services.subscriber.sync(acme.store.portals.get(PORTAL))


def subscribed(live: LivePortal) -> list[str]:
    return sorted(binding["event"] for binding in live.control.state()["bindings"])


def test_an_event_with_a_new_route_is_subscribed_at_once(make: Callable[..., Deployment], live: LivePortal) -> None:
    before, after = make(DEAL), make(DEAL, LEAD)
    assert due(before)
    sync(before)
    assert subscribed(live) == [DEAL]
    assert not due(before)
    assert due(after)
    sync(after)
    assert subscribed(live) == [DEAL, LEAD]
    assert not due(after)


def test_a_sync_is_due_once_for_all_workers(acme: Deployment) -> None:
    portal = acme.store.portals.get(PORTAL)
    assert [acme.services.subscriber.due(portal) for _ in range(3)] == [True, False, False]
    assert 0 < acme.redis.ttl(keys.bound(acme.ledger.stem, "asked")) <= RETRY_SECONDS


def test_none_is_due_before_the_first_poll_or_when_switched_off(make: Callable[..., Deployment]) -> None:
    assert not due(make(DEAL, B24_AUTO_SUBSCRIBE="false"))
    acme = make(DEAL)
    acme.store.portals.set_epoch(PORTAL, None)
    assert not due(acme)


def test_events_that_are_named_are_subscribed_instead_of_routed_ones(
    make: Callable[..., Deployment], live: LivePortal
) -> None:
    sync(make(DEAL, B24_EVENTS=LEAD))
    assert subscribed(live) == [LEAD]


def test_vanished_subscriptions_are_a_gap_since_the_last_look(
    make: Callable[..., Deployment], acme: Deployment, live: LivePortal
) -> None:
    began_ms = acme.ledger.now_ms()
    sync(acme)
    assert acme.gaps == [], "what was never subscribed has not vanished"
    live.control.drop_subscriptions()
    sync(acme)
    assert subscribed(live) == [DEAL]
    assert len(acme.gaps) == 1
    assert began_ms <= acme.gaps[0] <= acme.ledger.now_ms()
    after = make(DEAL, LEAD)
    sync(after)
    assert len(after.gaps) == 1, "a new route is no gap"


def test_a_sync_that_died_counts_as_a_gap(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    sync(acme)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(acme.services.subscriber, "_note_look", die)
        with pytest.raises(KeyboardInterrupt):
            sync(acme)
    sync(acme)
    assert len(acme.gaps) == 1


def test_a_refused_event_makes_the_next_sync_due_sooner(
    make: Callable[..., Deployment], live: LivePortal, caplog: pytest.LogCaptureFixture
) -> None:
    acme = make(DEAL, "ONNOSUCHEVENT")
    sync(acme)
    assert subscribed(live) == [DEAL]
    fresh_ms = acme.redis.pttl(keys.bound(acme.ledger.stem, "fresh"))
    assert 590_000 < fresh_ms <= 600_000
    lines = [record for record in caplog.records if record.message == "event cannot be subscribed"]
    assert [vars(record)["event"] for record in lines] == ["ONNOSUCHEVENT"]


@pytest.fixture
def in_process(acme: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Return the deployment that the tasks of this process work for."""
    monkeypatch.setattr(process, "_made", {os.getpid(): (acme.runtime, None)})
    return acme


def test_a_plan_that_is_too_small_suspends_polling(in_process: Deployment, live: LivePortal) -> None:
    live.control.licence(rest_offline_extended=False)
    with pytest.raises(PortalError):
        sync(in_process)
    assert bind(PORTAL) == "not bound: PlanTooSmall"
    assert in_process.store.portals.get(PORTAL).state == "plan_too_small"


def test_vanished_subscriptions_ask_for_a_reconciliation(in_process: Deployment, live: LivePortal) -> None:
    assert bind(PORTAL).startswith("bound 1")
    live.control.drop_subscriptions()
    assert bind(PORTAL).startswith("bound 1")
    ((_, body),) = in_process.services.requests.waiting(RECONCILE).items()
    assert (body["why"], body["deleted"]) == ("subscriptions had vanished", True)


def test_a_new_route_and_an_ended_subscription_are_no_alarm(
    make: Callable[..., Deployment], live: LivePortal, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make(DEAL), make(DEAL, LEAD)
    sync(first)
    live.control.fault(
        "batch/event.bind", "error", where={"event": LEAD}, status=403, code="insufficient_scope", times=1
    )
    for acme in (second, second):  # refused, then granted; the image of the first has no such route
        sync(acme)
    assert first.services.subscriber.plan().unrouted == (LEAD,)
    assert first.services.subscriber.unsubscribe(first.store.portals.get(PORTAL), [LEAD]) == 1
    assert subscribed(live) == [DEAL]
    sync(second)
    assert (subscribed(live), first.gaps, second.gaps) == ([DEAL, LEAD], [], [])
    assert not [record for record in caplog.records if "vanished" in record.message]


def test_a_subscription_keeps_the_time_since_when_it_stands(acme: Deployment, live: LivePortal) -> None:
    sync(acme)
    since = acme.services.subscriber.seen()
    acme.later(100)
    sync(acme)
    assert acme.services.subscriber.seen() == since
    live.control.drop_subscriptions()
    sync(acme)
    assert acme.services.subscriber.seen()[DEAL] > since[DEAL]


def handlers(live: LivePortal) -> list[tuple[str, str, float]]:
    """Return what is bound to an address: event, address, minTimeout."""
    found = [each for each in live.control.state()["bindings"] if not each["offline"]]
    return sorted((each["event"], each["handler"], each["min_timeout_seconds"]) for each in found)


def test_the_address_for_signals_is_bound_changed_and_ended(make: Callable[..., Deployment], live: LivePortal) -> None:
    none, one = make(DEAL), make(DEAL, B24_PUSH_URL="https://push.example.com/b24")
    sync(none)
    assert handlers(live) == []
    assert due(one)
    sync(one)
    address = "https://push.example.com/b24"
    bound = [("ONAPPUNINSTALL", address, 0), ("ONAPPUPDATE", address, 0), ("ONOFFLINEEVENT", address, 1)]
    assert handlers(live) == bound
    assert not due(one)
    sync(one)
    assert handlers(live) == bound, "what is bound already is no refusal"
    other = make(DEAL, B24_PUSH_URL="https://other.example.com/", B24_PUSH_MIN_TIMEOUT_SECONDS="7")
    assert due(other)
    sync(other)
    assert handlers(live)[-1] == ("ONOFFLINEEVENT", "https://other.example.com/", 7)
    assert len(handlers(live)) == 3
    sync(none)
    assert handlers(live) == []


def test_a_portal_that_refuses_the_address_is_subscribed_all_the_same(
    make: Callable[..., Deployment], live: LivePortal, caplog: pytest.LogCaptureFixture
) -> None:
    one = make(DEAL, B24_PUSH_URL="https://push.example.com/b24")
    refused = {"status": 400, "code": "ERROR_CORE", "description": "no such address"}
    live.control.fault("batch/event.bind", "error", where={"event": "ONOFFLINEEVENT"}, **refused)
    sync(one)
    assert subscribed(live) == ["ONAPPUNINSTALL", "ONAPPUPDATE", DEAL]
    (said,) = [vars(record) for record in caplog.records if record.message == "signal cannot be bound"]
    assert (said["event"], said["why"]) == ("ONOFFLINEEVENT", "ERROR_CORE: no such address")
    assert not due(one)
