"""The whole way over HTTP: poll, run, settle, with answers that the network loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.emulator import EmulatorProcess
from b24offline.errors import AccessDenied
from b24offline.rest import bind_events
from tests.support.core_events import TIMERS
from tests.support.deployment import UPDATE, WIDE_LANE, Deployment
from tests.support.live_portal import LivePortal, live
from tests.support.portal_desk import CONNECTOR

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

__all__ = ["live"]


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    """A portal for each test: what one leaves reserved, another would adopt."""
    with EmulatorProcess(objects=30) as process:
        yield process


@pytest.fixture
def deals(live: LivePortal) -> list[str]:
    """Return the deals that were changed; the calls so far are forgotten."""
    bind_events(live.client, CONNECTOR, [UPDATE])
    deals = live.control.change("crm_deal", "update", count=3)
    live.begin()
    return list(deals)


@pytest.fixture
def acme(redis: Redis, tmp_path: Path, live: LivePortal, deals: list[str]) -> Deployment:
    return Deployment(redis, tmp_path, client=live.client)


def ran(acme: Deployment, process_id: str, outcome: str) -> None:
    for run in acme.ledger.start(process_id):
        acme.ledger.begin_step(run.run, run.attempt, 0)
        if outcome == "succeeded":
            acme.ledger.succeed(run.run, run.attempt)
        else:
            acme.ledger.fail(run.run, run.attempt, "Boom", backoff_seconds=1)


def kinds(live: LivePortal) -> list[str]:
    return [entry["kind"] for entry in live.control.history(live.since)]


def test_the_common_case_is_two_requests(acme: Deployment, live: LivePortal) -> None:
    (pid,) = acme.poller.poll(WIDE_LANE).opened
    ran(acme, pid, "succeeded")
    assert acme.settler.settle(pid).state == "closed"
    assert live.calls() == ["event.offline.get", "event.offline.clear"]
    assert live.control.state()["records"] == 0


def test_an_error_executed_twice_by_the_network_destroys_nothing(
    acme: Deployment, live: LivePortal, deals: list[str]
) -> None:
    (pid,) = acme.poller.poll(WIDE_LANE).opened
    ran(acme, pid, "failed")
    acme.later(TIMERS.nack_age_seconds + 1)
    live.control.fault("event.offline.error", "twice", times=1)
    assert acme.settler.settle(pid).nacked == 3
    live.control.change("crm_deal", "update", ids=deals)
    assert "deleted_by_error" not in kinds(live)
    assert acme.settler.settle(pid).state == "closed"
    assert live.control.state()["free_nacked"] == 3


def test_a_plan_that_shrinks_acknowledges_nothing(acme: Deployment, live: LivePortal) -> None:
    (pid,) = acme.poller.poll(WIDE_LANE).opened
    ran(acme, pid, "failed")
    live.control.user(admin=False)
    acme.later(TIMERS.nack_age_seconds + 1)
    with pytest.raises(AccessDenied):
        acme.settler.settle(pid)
    live.control.user(admin=True)
    assert live.control.state()["reserved"] == 3
    assert acme.settler.settle(pid).nacked == 3
