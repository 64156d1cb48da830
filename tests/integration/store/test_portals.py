"""What operators want of portals, in the store."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from sqlalchemy import select

from b24offline.errors import MemberMismatch, PortalExists, StoreError, WrongKey
from b24offline.events import DesiredState, ObservedState
from b24offline.store import PORTALS, Cipher, Mirror, Reading, Store, mirror
from tests.support.store_bench import KEY, PORTAL, Clock, add_dead_letter, bind_member, pair

NEW = {**PORTAL, "refresh_token": "r1"}
FOREIGN = "B" * 43 + "="


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = Store(f"sqlite:///{tmp_path}/b24.db", Cipher([KEY]), clock=clock)
    store.create_schema()
    yield store
    store.engine.dispose()


def test_an_added_portal_is_to_run(store, clock):
    added = store.portals.add("acme", **NEW)
    assert (added.desired_state, added.state, added.polled, added.served) == (
        DesiredState.RUN,
        ObservedState.ACTIVE,
        True,
        True,
    )
    assert store.tokens.get("acme").refresh == "r1"
    assert added.desired_since.timestamp() == clock.now


def test_a_name_or_a_queue_is_added_once(store):
    store.portals.add("acme", **NEW)
    with pytest.raises(PortalExists, match="in the store already"):
        store.portals.add("acme", **{**NEW, "connector": "other"})
    with pytest.raises(PortalExists, match="Portal acme has this address"):
        store.portals.add("twin", **NEW)
    assert [portal.name for portal in store.portals.list()] == ["acme"]
    store.portals.add("other", **{**NEW, "connector": "other"})


@pytest.mark.parametrize("desired_state", [DesiredState.PAUSED, DesiredState.DRAINING])
def test_a_wish_outlives_states_tokens_and_the_configuration(store, clock, desired_state):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    clock.now += 5
    store.portals.set_desired_state("acme", desired_state)
    since = store.portals.get("acme").desired_since
    clock.now += 5
    store.portals.set_desired_state("acme", desired_state)
    store.portals.set_state("acme", ObservedState.AUTH_LOST, "why", actor="operator")
    store.portals.seed("acme", **PORTAL, refresh_token="r9")
    version = store.tokens.get("acme").version
    store.tokens.save("acme", pair(version + 1), version)
    store.portals.set_state("acme", ObservedState.ACTIVE)
    found = store.portals.get("acme")
    assert (found.desired_state, found.desired_since, found.polled, found.served) == (desired_state, since, False, True)


def test_only_a_draining_portal_finishes_draining(store):
    store.portals.add("acme", **NEW)
    assert not store.portals.finish_drain("acme")
    store.portals.set_desired_state("acme", DesiredState.DRAINING)
    assert store.portals.finish_drain("acme")
    assert store.portals.get("acme").desired_state is DesiredState.PAUSED


def test_a_removed_portal_holds_no_secret_and_is_not_seeded_back(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    bind_member(store, "acme", "m1")
    version = store.tokens.get("acme").version
    store.portals.remove("acme")
    assert not store.tokens.save("acme", pair(version + 1), version), "a refresh under way stores nothing"
    assert (store.tokens.get("acme").refresh, store.portals.get("acme").client_secret) == ("", "")
    again = store.portals.seed("acme", **PORTAL, refresh_token="r2")
    assert (again.desired_state, again.served, again.polled) == (DesiredState.REMOVED, False, False)
    assert (store.tokens.get("acme").refresh, again.client_secret, again.member_id) == ("", "", None)
    for act in (
        lambda: store.portals.set_desired_state("acme", DesiredState.RUN),
        lambda: store.portals.set_endpoint("acme", "https://b.example/rest/"),
        lambda: store.tokens.authorize("acme", "r"),
    ):
        with pytest.raises(StoreError, match="was removed"):
            act()
    with pytest.raises(ValueError, match="with remove"):
        store.portals.set_desired_state("acme", DesiredState.REMOVED)


def test_a_removed_portal_is_added_again_as_a_new_one(store):
    store.portals.add("acme", **NEW)
    bind_member(store, "acme", "m1")
    store.portals.set_epoch("acme", 7)
    store.portals.set_state("acme", ObservedState.BLOCKED, "why", actor="operator")
    store.portals.remove("acme")
    store.portals.add("other name", **NEW)
    bind_member(store, "other name", "m1")
    again = store.portals.add("acme", **{**NEW, "connector": "c2", "refresh_token": "r3"})
    assert (again.desired_state, again.state, again.state_reason, again.state_actor) == (
        DesiredState.RUN,
        ObservedState.ACTIVE,
        "",
        "",
    )
    assert again.ledger_epoch is None, "another queue, where nobody knows yet whose records are reserved"
    assert store.tokens.get("acme").refresh == "r3"
    store.portals.add("acme2", **{**NEW, "client_endpoint": "https://c.example/rest/"})
    with pytest.raises(MemberMismatch):
        bind_member(store, "acme2", "m1")


def test_the_same_queue_added_again_keeps_its_ledger_epoch(store):
    store.portals.add("acme", **NEW)
    store.portals.set_epoch("acme", 7)
    store.portals.remove("acme")
    assert store.portals.add("acme", **NEW).ledger_epoch == 7


@pytest.mark.parametrize("other", [{"connector": "c2"}, {"client_id": "app.2"}])
def test_the_queue_of_the_configuration_may_become_another(store, other):
    store.portals.seed("acme", **PORTAL)
    store.portals.set_epoch("acme", 7)
    store.portals.set_state("acme", ObservedState.UNDECIDED, "why")
    same = store.portals.seed("acme", **PORTAL)
    assert (same.ledger_epoch, same.state) == (7, ObservedState.UNDECIDED)
    moved = store.portals.seed("acme", **PORTAL | other)
    assert (moved.ledger_epoch, moved.state) == (None, ObservedState.ACTIVE)


def test_resuming_a_deleted_account_tries_it_again_and_leaves_other_states(store):
    store.portals.add("acme", **NEW)
    store.portals.set_state("acme", ObservedState.REMOVED, "gone", actor="operator")
    assert not store.portals.get("acme").polled
    store.portals.set_desired_state("acme", DesiredState.RUN)
    assert store.portals.get("acme").polled
    store.portals.set_state("acme", ObservedState.BLOCKED, "why")
    store.portals.set_desired_state("acme", DesiredState.RUN)
    assert store.portals.get("acme").state is ObservedState.BLOCKED


def test_the_names_that_are_polled_are_those_of_the_portals_that_are(store):
    for state, desired_state in itertools.product(ObservedState, DesiredState):
        name = f"{state}-{desired_state}"
        store.portals.add(name, **{**NEW, "connector": name})
        store.portals.set_state(name, state, "why")
        if desired_state is DesiredState.REMOVED:
            store.portals.remove(name)
        elif desired_state is not DesiredState.RUN:
            store.portals.set_desired_state(name, desired_state)
    polled = store.portals.polled_names()
    assert polled == [portal.name for portal in store.portals.list() if portal.polled]
    assert "active-run" in polled


def test_a_new_secret_is_that_of_all_portals_of_the_application(store, clock):
    store.portals.add("one", **NEW)
    store.portals.add("two", **{**NEW, "connector": "two"})
    store.portals.add("else", **{**NEW, "client_id": "app.2"})
    store.portals.add("gone", **{**NEW, "connector": "gone"})
    store.portals.remove("gone")
    store.tokens.delay_refresh("one", store.tokens.get("one").version, 60)
    assert store.portals.set_client_secret(NEW["client_id"], "new-secret") == ["one", "two"]
    secrets = {portal.name: portal.client_secret for portal in store.portals.list()}
    assert secrets == {"one": "new-secret", "two": "new-secret", "else": "canary-secret", "gone": ""}
    assert store.tokens.refresh_wait("one").seconds == 0, "it is tried at once"
    assert store.portals.set_client_secret("nobody", "new-secret") == []


def secrets_of(engine):
    """All portals' rows, encrypted as they are."""
    with engine.connect() as connection:
        return connection.execute(select(PORTALS).order_by(PORTALS.c.name)).all()


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.portals.add("new", **{**NEW, "connector": "new"}),
        lambda store: store.portals.add("gone", **{**NEW, "connector": "gone"}),
        lambda store: store.tokens.authorize("acme", "r2"),
        lambda store: store.portals.set_client_secret(NEW["client_id"], "new-secret"),
    ],
    ids=["add", "add again", "authorize", "secret"],
)
def test_who_has_another_key_stores_nothing(store, clock, act):
    store.portals.add("acme", **NEW)
    store.portals.add("gone", **{**NEW, "connector": "gone"})
    store.portals.remove("gone")
    before = secrets_of(store.engine)
    with pytest.raises(WrongKey, match="portal acme"):
        act(Store(store.engine, Cipher([FOREIGN]), clock=clock))
    assert secrets_of(store.engine) == before


def test_a_row_of_another_key_is_mended_with_the_right_one(store, clock):
    Store(store.engine, Cipher([FOREIGN]), clock=clock).portals.add("acme", **NEW)
    clock.now += 5
    with pytest.raises(WrongKey):
        store.portals.add("other", **{**NEW, "connector": "other"})
    store.portals.seed("configured", **{**PORTAL, "connector": "configured"})
    assert store.portals.names() == ["acme", "configured"]
    store.portals.set_client_secret(NEW["client_id"], "new-secret")
    store.tokens.authorize("acme", "r2")
    assert (store.portals.get("acme").client_secret, store.tokens.get("acme").refresh) == ("new-secret", "r2")


def test_names_and_what_is_shown_need_no_key(store, clock):
    for name in ("acme", "gone"):
        store.portals.add(name, **{**NEW, "connector": name})
    store.portals.remove("gone")
    foreign = Store(store.engine, Cipher([FOREIGN]), clock=clock)
    assert (foreign.portals.names(), foreign.portals.names(removed=True)) == (["acme"], ["acme", "gone"])
    assert foreign.portals.get_without_secret("acme") == replace(store.portals.get("acme"), client_secret="")


def test_a_new_authorization_is_noted_and_a_refresh_is_not(store, clock):
    store.portals.add("acme", **NEW)
    first = store.portals.get("acme").authorized_at
    clock.now += 5
    version = store.tokens.get("acme").version
    store.tokens.save("acme", pair(version + 1), version)
    assert store.portals.get("acme").authorized_at == first
    store.tokens.authorize("acme", "r2")
    assert store.portals.get("acme").authorized_at > first


def test_what_is_old_is_cleaned_and_the_configured_name_is_kept(store, clock):
    for name in ("gone", "configured", "runs"):
        store.portals.add(name, **{**NEW, "connector": name})
    store.portals.remove("gone")
    store.portals.remove("configured")
    ended, open_dead_letter = add_dead_letter(store), add_dead_letter(store, record_id=5)
    store.dead_letters.end(ended)
    assert store.prune(30) == (0, 0, 0)
    clock.now += 31 * 86_400
    assert store.prune(30, keep="configured") == (1, 1, 0)
    assert [portal.name for portal in store.portals.list()] == ["configured", "runs"]
    assert [dead_letter.id for dead_letter in store.dead_letters.list()] == [open_dead_letter]
    assert store.prune(30) == (0, 1, 0)


def test_objects_of_removed_portals_and_deleted_objects_are_pruned(store, clock, monkeypatch):
    monkeypatch.setattr(mirror, "_PRUNED_AT_ONCE", 2)
    seen = Mirror(store.engine)
    for name in ("runs", "gone"):
        store.portals.add(name, **{**NEW, "connector": name})
        for number in "123":
            seen.write(name, [Reading("crm_deal", number, {}, 1)])
    seen.write("unknown", [Reading("crm_deal", "1", {}, 1)])
    store.portals.remove("gone")
    seen.write("runs", [Reading("crm_deal", "1", None, round(clock.now * 1000))])
    assert store.prune(30) == (0, 0, 1)
    assert (seen.count("runs"), seen.count("gone")) == (3, 3)
    clock.now += 31 * 86_400
    seen.write("runs", [Reading("crm_deal", "2", None, round(clock.now * 1000))])
    assert store.prune(30, keep="gone") == (0, 0, 4)
    assert [row.object_id for row in seen.rows("runs")] == ["2", "3"]
    assert seen.count("gone") == 0
