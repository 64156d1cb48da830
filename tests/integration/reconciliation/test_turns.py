"""The turns of a reconciliation: at the portal's pace however often they are asked for; what it leaves out is told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from b24offline.events import Routes
from b24offline.ledger import RECONCILE
from b24offline.reconciliation import Job
from b24offline.reconciliation import turns as reconcile_turn
from b24offline.tasks import process, reconcile
from tests.support.celery_bench import broker
from tests.support.core_events import PORTAL
from tests.support.deployment import Deployment, passed_on
from tests.support.live_portal import LivePortal, emulator, live
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis import Redis

    from b24offline.delivery import PortalServices

__all__ = ["broker", "emulator", "live"]


@pytest.fixture
def services(
    live: LivePortal,
    redis: Redis,
    broker: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> PortalServices:
    """Return the services of a portal whose deals and leads are mirrored, for the tasks of this process."""
    routes = Routes()
    for name, entity in (("ONCRMDEALUPDATE", "crm_deal"), ("ONCRMLEADUPDATE", "crm_lead")):
        routes.add(passed_on, (name,), f"mirrored_{entity}", mirrors=(entity,))
    acme = Deployment(redis, tmp_path, client=live.client, routes=routes)
    monkeypatch.setattr(process, "_made", {os.getpid(): (acme.runtime, None)})
    broker(acme.runtime.config.redis_url)
    return acme.services


def test_turns_do_not_multiply_however_often_they_are_asked_for(
    services: PortalServices, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_turn, "STEPS_A_TURN", 1)
    number = services.requests.enqueue(RECONCILE, Job("by hand", 0, dry_run=True).body())
    # Requests of one millisecond have no order.
    wait_until(lambda: services.ledger.now_ms() > int(number.partition("-")[0]), "a later millisecond")
    services.requests.enqueue(RECONCILE, Job("daily", 0, dry_run=True).body())
    assert reconcile.reconcile(PORTAL).endswith("so far")
    after = services.requests.progress(number)
    assert reconcile.reconcile(PORTAL).startswith("another worker is at it")
    [key] = redis.keys("*:jobs:reconcile")
    assert 0 < redis.pttl(key) <= 500, "one call at two in a second"
    redis.delete(key)
    assert reconcile.reconcile(PORTAL).startswith("compared")
    assert services.requests.progress(number) != after, "the oldest goes on"


def test_what_could_not_be_compared_is_told_when_nobody_waits_for_the_answer(
    services: PortalServices, live: LivePortal, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    live.control.fault("crm.lead.list", "error", status=403, code="insufficient_scope")
    services.requests.enqueue(RECONCILE, Job("daily", 0, dry_run=True).body())
    assert reconcile.reconcile(PORTAL).startswith("compared")
    (line,) = [one for one in caplog.records if one.message == "reconciled"]
    assert line.__dict__["not_comparable"] == {"crm_lead": "InsufficientScope of the list method"}
