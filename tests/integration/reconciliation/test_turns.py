"""The turns of a reconciliation: at the portal's pace however often they are asked for; what it leaves out is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline import runtime as runtimes
from b24offline.events import Routes
from b24offline.ledger import RECONCILE
from b24offline.reconciliation import Job
from b24offline.reconciliation import turns as reconcile_turn
from b24offline.tasks import chains, mirror, objects, reconcile
from tests.support.celery_bench import broker, deployed
from tests.support.core_events import PORTAL
from tests.support.live_portal import LivePortal, emulator, live
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from b24offline.delivery import PortalServices
    from b24offline.emulator import EmulatorProcess
    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed", "emulator", "live"]


@pytest.fixture
def services(
    emulator: EmulatorProcess,
    live: LivePortal,
    deployed: Callable[..., Runtime],
    monkeypatch: pytest.MonkeyPatch,
) -> PortalServices:
    """A portal whose deals and leads are mirrored."""
    routes = Routes()
    for name, entity in (("ONCRMDEALUPDATE", "crm_deal"), ("ONCRMLEADUPDATE", "crm_lead")):
        routes.add(
            lambda event: objects.fetch.s() | mirror.upsert.s(), (name,), f"mirrored_{entity}", mirrors=(entity,)
        )
    for module in (runtimes, chains):
        monkeypatch.setattr(module, "routes", routes)
    runtime = deployed(
        B24_PORTAL_URL=emulator.rest,
        B24_PORTAL_NAME=PORTAL,
        B24_AUTH_URL=emulator.auth_url,
        B24_CLIENT_ID=emulator.client_id,
        B24_CLIENT_SECRET=emulator.client_secret,
        B24_REFRESH_TOKEN=live.control.issue_token()["refresh_token"],
    )
    return runtime.services(PORTAL)


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
