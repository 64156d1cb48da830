"""The durable store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
import stat
import threading
import traceback

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from b24offline.errors import MemberMismatch, UnknownDeadLetter, UnknownPortal, WrongKey
from b24offline.events import DesiredState, ObservedState
from b24offline.store import Cipher, Store, load_or_create_key
from tests.support.store_bench import KEY, PORTAL, add_dead_letter, at_once, bind_member, pair


def test_a_seeded_portal_is_read_back(store, clock):
    seeded = store.portals.seed("acme", **PORTAL, refresh_token="canary-r0")
    assert seeded == store.portals.get("acme") == store.portals.list()[0]
    assert (seeded.client_secret, seeded.connector) == ("canary-secret", "b24offline")
    assert (seeded.state, seeded.member_id, seeded.ledger_epoch) == (ObservedState.ACTIVE, None, None)
    assert seeded.created_at.timestamp() == clock.now
    tokens = store.tokens.get("acme")
    assert (tokens.access, tokens.refresh) == ("", "canary-r0")
    assert "canary" not in f"{seeded!r}{tokens!r}"


def test_seeding_again_keeps_endpoint_and_tokens(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    assert store.tokens.save("acme", pair(version + 1), version)
    changed = {
        "client_endpoint": "https://evil.example/rest/",
        "auth_url": "https://auth2.example/",
        "client_id": "app.2",
        "client_secret": "s2",
        "connector": "c2",
    }
    portal = store.portals.seed("acme", **changed, refresh_token="r1")
    assert portal.client_endpoint == PORTAL["client_endpoint"]
    assert {k: getattr(portal, k) for k in changed if k != "client_endpoint"} == {
        k: v for k, v in changed.items() if k != "client_endpoint"
    }
    assert store.tokens.get("acme") == pair(version + 1)
    store.portals.set_endpoint("acme", "https://new.example/rest/")
    assert store.portals.get("acme").client_endpoint == "https://new.example/rest/"


def test_a_refresh_token_may_come_later(store):
    store.portals.seed("acme", **PORTAL)
    assert store.tokens.get("acme").refresh == ""
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    assert store.tokens.get("acme").refresh == "r0"


def test_only_a_new_refresh_token_revives_a_lost_authorization(store):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    store.tokens.save("acme", pair(version + 1), version)
    store.portals.set_state("acme", ObservedState.AUTH_LOST, "reply")
    store.portals.seed("acme", **PORTAL, refresh_token="r0")  # used up long ago
    assert store.portals.get("acme").state is ObservedState.AUTH_LOST
    assert store.tokens.get("acme").version == version + 1
    store.portals.seed("acme", **PORTAL, refresh_token="r9")
    assert (store.portals.get("acme").state, store.portals.get("acme").state_reason) == (ObservedState.ACTIVE, "")
    assert (store.tokens.get("acme").refresh, store.tokens.get("acme").access) == ("r9", "")
    assert store.tokens.get("acme").version == version + 2
    store.tokens.authorize("acme", "r10")
    assert (store.tokens.get("acme").refresh, store.tokens.get("acme").version) == ("r10", version + 3)


def test_a_state_keeps_its_time_while_it_stays_and_its_reason_is_storable(store, clock):
    store.portals.seed("acme", **PORTAL)
    clock.now += 10
    store.portals.set_state("acme", ObservedState.BLOCKED, "nul \0 half \ud83d")
    since = store.portals.get("acme").state_since
    assert since.timestamp() == clock.now
    clock.now += 10
    store.portals.set_state("acme", ObservedState.BLOCKED, "again")
    assert (store.portals.get("acme").state_since, store.portals.get("acme").state_reason) == (since, "again")
    assert not store.portals.set_state("acme", ObservedState.AUTH_LOST, "late", token_version=99)
    assert store.portals.get("acme").state is ObservedState.BLOCKED


def test_one_queue_has_one_name(store):
    member = "-".join(("canary", "member"))
    store.portals.seed("acme", **PORTAL)
    bind_member(store, "acme", member)
    store.portals.seed("other connector", **{**PORTAL, "connector": "c2"})
    bind_member(store, "other connector", member)
    store.portals.seed("twin", **PORTAL)
    with pytest.raises(MemberMismatch, match="same Bitrix24 account") as caught:
        bind_member(store, "twin", member)
    assert member not in "".join(traceback.format_exception(caught.value)), "the row is not quoted"


def test_an_unknown_portal_is_named(store):
    for act in (
        lambda: store.portals.get("nobody"),
        lambda: store.tokens.get("nobody"),
        lambda: store.portals.set_state("nobody", ObservedState.ACTIVE),
        lambda: store.portals.set_epoch("nobody", 1),
        lambda: store.portals.set_desired_state("nobody", DesiredState.PAUSED),
        lambda: store.portals.remove("nobody"),
        lambda: store.portals.set_endpoint("nobody", "https://b.example/rest/"),
        lambda: store.tokens.authorize("nobody", "r"),
    ):
        with pytest.raises(UnknownPortal, match="nobody"):
            act()


def test_nothing_secret_is_readable_in_the_file_and_the_file_is_private(tmp_path):
    path = tmp_path / "b24.db"
    store = Store(f"sqlite:///{path}", Cipher([KEY]))
    store.create_schema()
    store.portals.seed("acme", **PORTAL, refresh_token="canary-r0")
    version = store.tokens.get("acme").version
    store.tokens.save("acme", pair(version + 1), version)
    add_dead_letter(store)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3  # the log of SQLite holds data too
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"canary" not in file.read_bytes()
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_errors_of_the_database_show_no_values(store):
    statement = text('INSERT INTO schema_version ("only", version) VALUES (:number, :version)')
    with pytest.raises(DBAPIError, match="hidden") as caught, store.engine.begin() as connection:
        connection.execute(statement, {"number": 424242, "version": None})
    assert "parameters: {" not in str(caught.value)


def test_another_key_is_told_and_a_second_one_opens(store, database_url):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    other = Fernet.generate_key().decode()
    with pytest.raises(WrongKey, match=r"client secret of portal acme.*B24_SECRET_KEY") as caught:
        Store(database_url, Cipher([other])).portals.list()
    assert KEY not in str(caught.value)
    both = Store(database_url, Cipher([other, KEY]))
    assert both.tokens.get("acme").refresh == "r0"
    add_dead_letter(both)
    assert both.reencrypt() == 4
    only = Store(database_url, Cipher([other]))
    assert (only.tokens.get("acme").refresh, only.portals.get("acme").client_secret) == ("r0", "canary-secret")
    assert only.dead_letters.list()[0].payload == {"data": "canary \0 \U0001f600"}


def test_a_configuration_with_another_key_replaces_no_secret(store, database_url):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    with pytest.raises(WrongKey, match="client secret of portal acme"):
        Store(database_url, Cipher([Fernet.generate_key().decode()])).portals.seed("acme", **PORTAL, refresh_token="r0")
    assert (store.portals.get("acme").client_secret, store.tokens.get("acme").refresh) == ("canary-secret", "r0")


def test_a_refresh_during_the_reencryption_is_kept(store, database_url, monkeypatch):
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    version = store.tokens.get("acme").version
    other = threading.Thread(target=lambda: store.tokens.save("acme", pair(version + 1), version))
    keys = Cipher([KEY])
    rotate = keys.rotate

    def beside_a_refresh(secret, place, what):
        if other.ident is None:
            other.start()
            other.join(0.5)  # it waits for the end of the transaction
        return rotate(secret, place, what)

    monkeypatch.setattr(keys, "rotate", beside_a_refresh)
    Store(database_url, keys).reencrypt()
    other.join(30)
    assert store.tokens.get("acme") == pair(version + 1)


def test_a_dead_letter_is_kept_shown_and_ended(store):
    number = add_dead_letter(store, reason="nul \0")
    dead_letter = store.dead_letters.get(number)
    assert dead_letter.payload == {"data": "canary \0 \U0001f600"}
    assert (dead_letter.record_id, dead_letter.ended_at) == (1 << 40, None)
    assert "canary" not in repr(dead_letter)
    assert (store.dead_letters.count(), store.dead_letters.count("other")) == (1, 0)
    assert store.dead_letters.end(number)
    assert not store.dead_letters.end(number)
    assert store.dead_letters.count() == 0
    assert store.dead_letters.list() == []
    assert store.dead_letters.list(ended=True)[0].ended_at is not None
    with pytest.raises(UnknownDeadLetter, match="999"):
        store.dead_letters.get(999)


def test_one_dead_letter_is_open_for_a_record_and_pipeline(store):
    first = add_dead_letter(store)
    assert add_dead_letter(store, reason="again") == first
    assert store.dead_letters.get(first).reason == "again"
    second = add_dead_letter(store, pipeline="other")
    assert [dead_letter.id for dead_letter in store.dead_letters.list("acme")] == [first, second]
    assert [dead_letter.id for dead_letter in store.dead_letters.list(limit=1)] == [first]
    assert [dead_letter.id for dead_letter in store.dead_letters.list(after_id=first)] == [second]
    assert store.dead_letters.end_of_record("acme", 1 << 40) == 2
    assert add_dead_letter(store) not in {first, second}


def start_together(database_url, folder):
    store = Store(database_url or f"sqlite:///{folder}/new.db", Cipher([load_or_create_key(folder)]))
    store.create_schema()
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    return load_or_create_key(folder), store.tokens.get("acme").version


def test_processes_that_start_together_agree(database_url, tmp_path):
    seen = at_once(start_together, 4, database_url, str(tmp_path / "data"))
    assert len(seen) == 1
    assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600
    assert [f.name for f in (tmp_path / "data").iterdir()] == ["secret.key"]
