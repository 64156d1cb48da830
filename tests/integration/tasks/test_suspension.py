"""What the store keeps of a portal after failed calls: the cause that a person can correct."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline import errors
from b24offline.config import Config
from b24offline.events import ObservedState
from b24offline.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from b24offline.supervisor import EmbeddedValkey

PORTAL = "acme"


@pytest.fixture
def runtime(tmp_path: Path, valkey: EmbeddedValkey, redis: Redis) -> Runtime:
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


def reply(runtime: Runtime, error: errors.PortalError) -> tuple[str, str]:
    """State and who must act, after a call failed so."""
    runtime.services(PORTAL).lifecycle.note_failure(error)
    portal = runtime.store.portals.get(PORTAL)
    return portal.state, portal.state_actor


def of(kind: type[errors.PortalError]) -> errors.PortalError:
    return kind(PORTAL, "oauth.token", 401, "", "")


def test_another_cause_of_the_same_state_names_who_must_act_now(runtime: Runtime) -> None:
    assert reply(runtime, of(errors.Unreachable)) == (ObservedState.PAUSED, "nobody")
    since = runtime.store.portals.get(PORTAL).state_since
    assert reply(runtime, of(errors.PaymentRequired)) == (ObservedState.PAUSED, "portal administrator")
    assert reply(runtime, of(errors.ClientRejected)) == (ObservedState.PAUSED, "operator")
    assert reply(runtime, of(errors.ServerError)) == (ObservedState.PAUSED, "nobody"), "it was paid and corrected"
    assert runtime.store.portals.get(PORTAL).state_since == since
    runtime.services(PORTAL).lifecycle.note_success()
    assert runtime.store.portals.get(PORTAL).state_reason == ""


def test_the_cause_of_a_lost_authorization_is_kept(runtime: Runtime) -> None:
    runtime.store.portals.set_state(PORTAL, ObservedState.AUTH_LOST, "another account answers", actor="operator")
    assert reply(runtime, of(errors.AuthLost)) == (ObservedState.AUTH_LOST, "operator")
    assert runtime.store.portals.get(PORTAL).state_reason == "another account answers"
