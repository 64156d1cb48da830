"""What the store is told of a portal after calls failed: the cause that a person can mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline import errors
from b24offline.config import Config
from b24offline.events import PortalState
from b24offline.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from b24offline.supervisor import EmbeddedValkey

pytestmark = pytest.mark.unit

PORTAL = "acme"


@pytest.fixture
def here(tmp_path: Path, valkey: EmbeddedValkey, redis: Redis) -> Runtime:
    del redis  # its server is emptied
    runtime = Runtime(Config.load({"B24_REDIS_URL": valkey.url, "B24_DATA_DIR": str(tmp_path)}))
    runtime.store.portals.add(
        PORTAL,
        client_endpoint="https://acme.example/rest/",
        auth_url="https://auth.example",
        client_id="app",
        client_secret="s",
        connector="b24offline",
        refresh_token="r",
    )
    return runtime


def told(here: Runtime, error: errors.PortalError) -> tuple[str, str]:
    """State and who must act, after a call failed so."""
    here.kit(PORTAL).lifecycle.note_failure(error)
    portal = here.store.portals.get(PORTAL)
    return portal.state, portal.state_actor


def of(kind: type[errors.PortalError]) -> errors.PortalError:
    return kind(PORTAL, "oauth.token", 401, "", "")


def test_another_cause_of_the_same_state_names_who_must_act_now(here: Runtime) -> None:
    assert told(here, of(errors.Unreachable)) == (PortalState.PAUSED, "nobody")
    since = here.store.portals.get(PORTAL).state_since
    assert told(here, of(errors.PaymentRequired)) == (PortalState.PAUSED, "portal administrator")
    assert told(here, of(errors.ClientRejected)) == (PortalState.PAUSED, "operator")
    assert told(here, of(errors.ServerError)) == (PortalState.PAUSED, "nobody"), "it was paid and corrected"
    assert here.store.portals.get(PORTAL).state_since == since
    here.kit(PORTAL).lifecycle.note_success()
    assert here.store.portals.get(PORTAL).state_reason == ""


def test_how_an_authorization_was_lost_stays_told(here: Runtime) -> None:
    here.store.portals.set_state(PORTAL, PortalState.AUTH_LOST, "another account answers", actor="operator")
    assert told(here, of(errors.AuthLost)) == (PortalState.AUTH_LOST, "operator")
    assert here.store.portals.get(PORTAL).state_reason == "another account answers"
