"""Removing a portal that lets nobody unsubscribe."""

from __future__ import annotations

import pytest

from b24offline.config import Config
from b24offline.errors import StoreError
from b24offline.events import DesiredState
from b24offline.runtime import Runtime
from tests.integration.rest.test_oauth import auth, seeded  # noqa: F401 - a fixture
from tests.support.store_bench import bind_member


def test_a_portal_of_another_account_is_removed_by_force(auth, valkey, redis, tmp_path):  # noqa: F811
    database = f"sqlite:///{tmp_path}/b24.db"
    store = seeded(database, auth)
    bind_member(store, "acme", "another than answers")
    store.portals.set_epoch("acme", 7)
    store.portals.set_desired_state("acme", DesiredState.PAUSED)
    runtime = Runtime(
        Config(
            redis_url=valkey.url,
            database_url=database,
            data_dir=tmp_path,
            secret_key="A" * 43 + "=",
            loopback_http=True,
        )
    )
    with pytest.raises(StoreError, match=r"still subscribed.*another account another name.*--force"):
        list(runtime.services("acme").lifecycle.remove(force=False))
    store.tokens.authorize("acme", auth.valid)
    reply = list(runtime.services("acme").lifecycle.remove(force=True))
    assert "another account another name" in reply[0]
    assert not store.portals.get("acme").served
