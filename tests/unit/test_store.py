"""The durable store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from b24offline.errors import (
    MemberMismatch,
    StoreError,
    UnknownDeadLetter,
    UnknownPortal,
    WrongKey,
)
from b24offline.store import Cipher, PortalState, Store, Tokens, load_or_create_key

POSTGRES = os.environ.get("B24_TEST_DATABASE_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres")
KEY = Fernet.generate_key().decode()
PORTAL = {
    "client_endpoint": "https://acme.example/rest/",
    "auth_url": "https://auth.example/oauth/token/",
    "client_id": "app.1",
    "client_secret": "canary-secret",
    "connector": "b24offline",
}


@contextlib.contextmanager
def postgres_database():
    """A database of its own on the server, gone afterwards."""
    name = f"b24offline_test_{secrets.token_hex(6)}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except OperationalError as error:
        pytest.skip(f"PostgreSQL is not reachable; set B24_TEST_DATABASE_URL: {str(error.orig)[:80]}")
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/deep/b24.db"
    else:
        with postgres_database() as address:
            yield address


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(url, clock):
    store = Store(url, Cipher([KEY]), clock=clock)
    store.create_schema()
    yield store
    store.engine.dispose()


def pair(version, name="x"):
    return Tokens(access=f"canary-a-{name}", refresh=f"canary-r-{name}", expires_at=5.5, version=version)


def test_a_seeded_portal_is_read_back(store, clock):
    seeded = store.seed_portal("acme", **PORTAL, refresh_token="canary-r0")
    assert seeded == store.portal("acme") == store.portals()[0]
    assert (seeded.client_secret, seeded.connector) == ("canary-secret", "b24offline")
    assert (seeded.state, seeded.member_id, seeded.ledger_generation) == (PortalState.ACTIVE, None, None)
    assert seeded.created_at.timestamp() == clock.now
    tokens = store.tokens("acme")
    assert (tokens.access, tokens.refresh, tokens.expires_at) == ("", "canary-r0", None)
    assert "canary" not in f"{seeded!r}{tokens!r}"


def test_seeding_again_follows_the_configuration_but_keeps_endpoint_and_tokens(store):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    assert store.save_tokens("acme", pair(version + 1), version)
    changed = {
        "client_endpoint": "https://evil.example/rest/",
        "auth_url": "https://auth2.example/",
        "client_id": "app.2",
        "client_secret": "s2",
        "connector": "c2",
    }
    portal = store.seed_portal("acme", **changed, refresh_token="r1")
    assert portal.client_endpoint == PORTAL["client_endpoint"]
    assert {k: getattr(portal, k) for k in changed if k != "client_endpoint"} == {
        k: v for k, v in changed.items() if k != "client_endpoint"
    }
    assert store.tokens("acme") == pair(version + 1)
    store.set_endpoint("acme", "https://new.example/rest/")
    assert store.portal("acme").client_endpoint == "https://new.example/rest/"


def test_a_refresh_token_may_come_later(store):
    store.seed_portal("acme", **PORTAL)
    assert store.tokens("acme").refresh == ""
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    assert store.tokens("acme").refresh == "r0"


def test_only_a_new_refresh_token_revives_a_lost_authorization(store):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    store.save_tokens("acme", pair(version + 1), version)
    store.set_state("acme", PortalState.AUTH_LOST, "told")
    store.seed_portal("acme", **PORTAL, refresh_token="r0")  # used up long ago
    assert store.portal("acme").state is PortalState.AUTH_LOST
    assert store.tokens("acme").version == version + 1
    store.seed_portal("acme", **PORTAL, refresh_token="r9")
    assert (store.portal("acme").state, store.portal("acme").state_reason) == (PortalState.ACTIVE, "")
    assert (store.tokens("acme").refresh, store.tokens("acme").access) == ("r9", "")
    assert store.tokens("acme").version == version + 2
    store.authorize("acme", "r10")
    assert (store.tokens("acme").refresh, store.tokens("acme").version) == ("r10", version + 3)


def test_a_pair_replaces_only_the_one_it_was_made_from(store):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    assert store.save_tokens("acme", pair(version + 1, "1"), version)
    assert not store.save_tokens("acme", pair(version + 1, "2"), version)
    assert store.tokens("acme") == pair(version + 1, "1")
    with pytest.raises(ValueError, match="next number"):
        store.save_tokens("acme", pair(version + 5), version + 1)
    with pytest.raises(UnknownPortal):
        store.save_tokens("nobody", pair(1), 0)


def test_of_many_savers_one_wins(store):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: store.save_tokens("acme", pair(version + 1, str(n)), version), range(8)))
    assert won.count(True) == 1
    assert store.tokens("acme") == pair(version + 1, str(won.index(True)))


def test_a_saved_pair_ends_a_lost_authorization_and_no_other_state(store):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    store.set_state("acme", PortalState.NOT_ADMIN, "why")
    store.save_tokens("acme", pair(version + 1), version)
    assert (store.portal("acme").state, store.portal("acme").state_reason) == (PortalState.NOT_ADMIN, "why")
    store.set_state("acme", PortalState.AUTH_LOST, "why")
    store.save_tokens("acme", pair(version + 2), version + 1)
    assert store.portal("acme").state is PortalState.ACTIVE


def test_a_state_keeps_its_time_while_it_stays_and_its_reason_is_storable(store, clock):
    store.seed_portal("acme", **PORTAL)
    clock.now += 10
    store.set_state("acme", PortalState.BLOCKED, "nul \0 half \ud83d")
    since = store.portal("acme").state_since
    assert since.timestamp() == clock.now
    clock.now += 10
    store.set_state("acme", PortalState.BLOCKED, "again")
    assert (store.portal("acme").state_since, store.portal("acme").state_reason) == (since, "again")
    assert not store.set_state("acme", PortalState.AUTH_LOST, "late", token_version=99)
    assert store.portal("acme").state is PortalState.BLOCKED


def test_a_refresh_is_claimed_once_and_the_claim_runs_out(store, clock):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    assert not store.claim_refresh("acme", version + 1, 30)
    assert store.claim_refresh("acme", version, 30)
    assert not store.claim_refresh("acme", version, 30)
    assert (store.refresh_wait("acme").seconds, store.refresh_wait("acme").failed) == (30.0, False)
    clock.now += 31
    assert store.claim_refresh("acme", version, 30)
    store.delay_refresh("acme", version, 15)
    assert (store.refresh_wait("acme").seconds, store.refresh_wait("acme").failed) == (15.0, True)
    assert not store.claim_refresh("acme", version, 30)
    clock.now += 16
    assert store.claim_refresh("acme", version, 30)
    store.save_tokens("acme", pair(version + 1), version)
    assert store.claim_refresh("acme", version + 1, 30)


def test_a_claim_of_a_clock_that_ran_ahead_does_not_stay(store, clock):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    clock.now += 3600
    assert store.claim_refresh("acme", version, 30)
    clock.now -= 3600
    assert store.claim_refresh("acme", version, 30)
    clock.now += 3600
    store.delay_refresh("acme", version, 15)
    clock.now -= 3600
    assert store.claim_refresh("acme", version, 30)
    assert (store.refresh_wait("acme").seconds, store.refresh_wait("acme").failed) == (30.0, False)


def test_a_name_stays_with_its_account(store):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    store.bind_member("acme", "m1")
    store.bind_member("acme", "m1")
    with pytest.raises(MemberMismatch, match=r"acme .* m1, but m2"):
        store.bind_member("acme", "m2")
    version = store.tokens("acme").version
    with pytest.raises(MemberMismatch):
        store.save_tokens("acme", pair(version + 1), version, member_id="m2")
    assert store.tokens("acme").version == version
    assert store.save_tokens("acme", pair(version + 1), version, member_id="m1")
    assert store.portal("acme").member_id == "m1"


def test_one_queue_has_one_name(store):
    store.seed_portal("acme", **PORTAL, member_id="m1")
    store.seed_portal("other connector", **{**PORTAL, "connector": "c2"}, member_id="m1")
    store.seed_portal("twin", **PORTAL)
    with pytest.raises(MemberMismatch, match="same Bitrix24 account"):
        store.bind_member("twin", "m1")


def test_an_unknown_portal_is_named(store):
    for act in (
        lambda: store.portal("nobody"),
        lambda: store.tokens("nobody"),
        lambda: store.set_state("nobody", PortalState.ACTIVE),
        lambda: store.set_generation("nobody", 1),
        lambda: store.authorize("nobody", "r"),
    ):
        with pytest.raises(UnknownPortal, match="nobody"):
            act()


def test_the_generation_is_kept(store):
    store.seed_portal("acme", **PORTAL)
    store.set_generation("acme", 1 << 40)
    assert store.portal("acme").ledger_generation == 1 << 40
    store.set_generation("acme", None)
    assert store.portal("acme").ledger_generation is None


def test_nothing_secret_is_readable_in_the_file_and_the_file_is_private(tmp_path):
    path = tmp_path / "b24.db"
    store = Store(f"sqlite:///{path}", Cipher([KEY]))
    store.create_schema()
    store.seed_portal("acme", **PORTAL, refresh_token="canary-r0")
    version = store.tokens("acme").version
    store.save_tokens("acme", pair(version + 1), version)
    add_letter(store)
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


def test_another_key_is_told_and_a_second_one_opens(store, url):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    other = Fernet.generate_key().decode()
    with pytest.raises(WrongKey, match=r"client secret of portal acme.*B24_SECRET_KEY") as caught:
        Store(url, Cipher([other])).portals()
    assert KEY not in str(caught.value)
    both = Store(url, Cipher([other, KEY]))
    assert both.tokens("acme").refresh == "r0"
    add_letter(both)
    assert both.reencrypt() == 4
    only = Store(url, Cipher([other]))
    assert (only.tokens("acme").refresh, only.portal("acme").client_secret) == ("r0", "canary-secret")
    assert only.dead_letters()[0].payload == {"data": "canary \0 \U0001f600"}


def test_a_configuration_with_another_key_replaces_no_secret(store, url):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    with pytest.raises(WrongKey, match="client secret of portal acme"):
        Store(url, Cipher([Fernet.generate_key().decode()])).seed_portal("acme", **PORTAL, refresh_token="r0")
    assert (store.portal("acme").client_secret, store.tokens("acme").refresh) == ("canary-secret", "r0")


def test_a_refresh_during_the_reencryption_is_kept(store, url, monkeypatch):
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    version = store.tokens("acme").version
    other = threading.Thread(target=lambda: store.save_tokens("acme", pair(version + 1), version))
    keys = Cipher([KEY])
    rotate = keys.rotate

    def beside_a_refresh(secret, what):
        if other.ident is None:
            other.start()
            other.join(0.5)  # it waits for the end of the transaction
        return rotate(secret, what)

    monkeypatch.setattr(keys, "rotate", beside_a_refresh)
    Store(url, keys).reencrypt()
    other.join(30)
    assert store.tokens("acme") == pair(version + 1)


def add_letter(store, **other):
    values = {
        "portal": "acme",
        "record_id": 1 << 40,
        "message_id": "m" * 32,
        "event_name": "ONCRMDEALUPDATE",
        "object": "crm_deal 7",
        "pipeline": "deal_changed",
        "reason": "8 attempts",
        "payload": {"data": "canary \0 \U0001f600"},
    }
    return store.add_dead_letter(**{**values, **other})


def test_a_dead_letter_is_kept_shown_and_ended(store):
    number = add_letter(store, reason="nul \0")
    letter = store.dead_letter(number)
    assert letter.payload == {"data": "canary \0 \U0001f600"}
    assert (letter.record_id, letter.ended_at) == (1 << 40, None)
    assert "canary" not in repr(letter)
    assert (store.count_dead_letters(), store.count_dead_letters("other")) == (1, 0)
    assert store.end_dead_letter(number)
    assert not store.end_dead_letter(number)
    assert store.count_dead_letters() == 0
    assert store.dead_letters() == []
    assert store.dead_letters(ended=True)[0].ended_at is not None
    with pytest.raises(UnknownDeadLetter, match="999"):
        store.dead_letter(999)


def test_one_letter_is_open_for_a_record_and_pipeline(store):
    first = add_letter(store)
    assert add_letter(store, reason="again") == first
    assert store.dead_letter(first).reason == "again"
    second = add_letter(store, pipeline="other")
    assert [letter.id for letter in store.dead_letters("acme")] == [first, second]
    assert [letter.id for letter in store.dead_letters(limit=1)] == [first]
    assert [letter.id for letter in store.dead_letters(after_id=first)] == [second]
    assert store.end_dead_letters_of("acme", 1 << 40) == 2
    assert add_letter(store) not in {first, second}


def test_a_database_of_another_version_is_left_alone(store):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    with pytest.raises(StoreError, match="version 99"):
        store.create_schema()


def start_together(barrier, results, url, folder):
    barrier.wait()
    store = Store(url or f"sqlite:///{folder}/new.db", Cipher([load_or_create_key(folder)]))
    store.create_schema()
    store.seed_portal("acme", **PORTAL, refresh_token="r0")
    results.put((load_or_create_key(folder), store.tokens("acme").version))


def test_processes_that_start_together_agree(url, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(6), context.Queue()
    arguments = (barrier, results, url, str(tmp_path / "data"))
    processes = [context.Process(target=start_together, args=arguments) for _ in range(6)]
    for process in processes:
        process.start()
    seen = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert len(seen) == 1
    assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600
    assert [f.name for f in (tmp_path / "data").iterdir()] == ["secret.key"]
