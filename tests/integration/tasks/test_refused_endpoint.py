"""A portal whose stored address may not be called is suspended with what to do; its steps wait, and it comes back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from b24offline.events import ObservedState
from b24offline.ledger import PollLease
from b24offline.monitoring import IssueCode, portal_status
from b24offline.tasks.bind import bind
from b24offline.tasks.poll import poll
from b24offline.tasks.redrive import redrive
from b24offline.tasks.settle import settle
from b24offline.tasks.sweep import adopt
from tests.support.celery_bench import broker, deployed

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.runtime import Runtime

__all__ = ["broker", "deployed"]

PORTAL = "acme"
GOOD = "https://acme.example/rest/"


@pytest.fixture(
    params=["http://acme.example/rest/", "http://127.0.0.1:8/rest/", "ftp://acme.example/rest/"],
    ids=["plain http", "loopback without the setting", "another scheme"],
)
def runtime(request: pytest.FixtureRequest, deployed: Callable[..., Runtime]) -> Runtime:
    """A deployment whose portal has an address that an earlier version, or somebody with the database, put there."""
    runtime = deployed(B24_AUTO_SUBSCRIBE="false")
    lease = runtime.services(PORTAL).fencing.take_poll_lease(None, gate=True)
    assert isinstance(lease, PollLease)
    runtime.services(PORTAL).fencing.release(lease)
    runtime.store.portals.set_epoch(PORTAL, lease.epoch)
    runtime.store.portals.set_endpoint(PORTAL, request.param)
    runtime._services.clear()
    return runtime


def test_polls_are_suspended_with_what_to_do_and_go_on_with_another_address(runtime: Runtime) -> None:
    assert poll(PORTAL) == "not polled for 300 s: EndpointRefused"
    assert runtime.services(PORTAL).fencing.poll_lease_left_seconds() <= 0
    portal = runtime.store.portals.get(PORTAL)
    assert (portal.state, portal.state_actor) == (ObservedState.PAUSED, "operator")
    status = portal_status(runtime.store, runtime.redis, runtime.config, portal)
    (issue,) = (issue for issue in status.issues if issue.code is IssueCode.PORTAL_STATE)
    assert "b24offline portal set-url NAME --url ADDRESS" in issue.message
    runtime.store.portals.set_endpoint(PORTAL, GOOD)
    runtime._services.clear()
    assert runtime.services(PORTAL).client is not None


@pytest.mark.parametrize(
    "work", [bind, adopt, redrive, partial(settle, process_id="p")], ids=["bind", "adopt", "redrive", "settle"]
)
def test_nothing_that_works_for_the_portal_ends_in_a_traceback(
    runtime: Runtime, work: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    assert work(PORTAL)
    assert not [record for record in caplog.records if record.exc_info]
