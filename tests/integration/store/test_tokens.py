"""Pairs of tokens in the store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from b24offline.errors import MemberMismatch, UnknownPortal
from b24offline.events import ObservedState
from b24offline.store.database import now_in
from tests.support.store_bench import PORTAL, bind_member, pair, pass_time


def test_a_pair_replaces_only_the_one_it_was_made_from(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    assert store.tokens.save("acme", pair(version + 1, "1"), version)
    assert not store.tokens.save("acme", pair(version + 1, "2"), version)
    assert store.tokens.get("acme") == pair(version + 1, "1")
    with pytest.raises(ValueError, match="next number"):
        store.tokens.save("acme", pair(version + 5), version + 1)
    with pytest.raises(UnknownPortal):
        store.tokens.save("nobody", pair(1), 0)


def test_of_many_savers_one_wins(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.tokens.save("acme", pair(version + 1, str(n)), version), range(8)))
    assert won.count(True) == 1
    assert store.tokens.get("acme") == pair(version + 1, str(won.index(True)))


def test_a_saved_pair_ends_a_lost_authorization_and_no_other_state(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    store.portals.set_state("acme", ObservedState.NOT_ADMIN, "why")
    store.tokens.save("acme", pair(version + 1), version)
    assert (store.portals.get("acme").state, store.portals.get("acme").state_reason) == (ObservedState.NOT_ADMIN, "why")
    store.portals.set_state("acme", ObservedState.AUTH_LOST, "why")
    store.tokens.save("acme", pair(version + 2), version + 1)
    assert store.portals.get("acme").state is ObservedState.ACTIVE


def test_a_refresh_is_claimed_once_and_the_claim_runs_out(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version, tokens = store.tokens.get("acme").version, store.tokens
    assert not tokens.claim_refresh("acme", version + 1, 30)
    assert tokens.claim_refresh("acme", version, 30)
    assert not tokens.claim_refresh("acme", version, 30)
    wait = tokens.refresh_wait("acme")
    assert (20 < wait.seconds <= 30, wait.failed) == (True, False)
    pass_time(store, 31)
    assert tokens.claim_refresh("acme", version, 30)
    tokens.delay_refresh("acme", version, 15)
    wait = tokens.refresh_wait("acme")
    assert (5 < wait.seconds <= 15, wait.failed) == (True, True)
    assert not tokens.claim_refresh("acme", version, 30)
    pass_time(store, 16)
    assert tokens.claim_refresh("acme", version, 30)
    tokens.save("acme", pair(version + 1), version)
    assert tokens.claim_refresh("acme", version + 1, 30)


def test_of_many_that_claim_a_refresh_one_gets_it(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda _: store.tokens.claim_refresh("acme", version, 30), range(16)))
    assert won.count(True) == 1


@pytest.mark.parametrize("off_seconds", [-3600, -60, 60, 3600])
def test_a_wrong_clock_of_a_worker_neither_frees_a_claim_nor_prolongs_it(store, clock, off_seconds):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    clock.now += off_seconds
    assert store.tokens.claim_refresh("acme", version, 30)
    assert 20 < store.tokens.refresh_wait("acme").seconds <= 30
    clock.now -= off_seconds
    assert not store.tokens.claim_refresh("acme", version, 30)
    assert 20 < store.tokens.refresh_wait("acme").seconds <= 30


def test_the_clock_of_claims_is_that_of_the_database(store):
    with store.engine.connect() as connection:
        now = connection.execute(select(now_in(store.engine))).scalar_one()
    assert abs(now - time.time()) < 60


def test_a_claim_ends_though_the_database_clock_was_set_back(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    assert store.tokens.claim_refresh("acme", version, 30)
    pass_time(store, -3600)
    assert store.tokens.claim_refresh("acme", version, 30)
    store.tokens.delay_refresh("acme", version, 15)
    pass_time(store, -3600)
    assert store.tokens.claim_refresh("acme", version, 30)
    wait = store.tokens.refresh_wait("acme")
    assert (20 < wait.seconds <= 30, wait.failed) == (True, False)


def test_a_name_stays_with_its_account(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    bind_member(store, "acme", "m1")
    bind_member(store, "acme", "m1")
    with pytest.raises(MemberMismatch, match=r"acme .* m1, but m2"):
        bind_member(store, "acme", "m2")
    version = store.tokens.get("acme").version
    with pytest.raises(MemberMismatch):
        store.tokens.save("acme", pair(version + 1), version, member_id="m2")
    assert store.tokens.get("acme").version == version
    assert store.tokens.save("acme", pair(version + 1), version, member_id="m1")
    assert store.portals.get("acme").member_id == "m1"
