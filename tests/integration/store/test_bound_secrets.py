"""Secrets are bound to their row: one that was moved, or whose row names another address, does not open."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from redis import Redis
from sqlalchemy import select, update

from b24offline.config import Config
from b24offline.errors import WrongKey
from b24offline.monitoring import portal_statuses
from b24offline.store import PORTALS, Cipher, Store
from b24offline.store.schema import DEAD_LETTERS, secrets_of
from tests.support.store_bench import KEY, PORTAL, add_dead_letter, pair

SECRETS = secrets_of(PORTALS)


@pytest.fixture
def two(store):
    """A store with the portals acme and globex, both with all their secrets."""
    for name in ("acme", "globex"):
        store.portals.seed(name, **{**PORTAL, "connector": name}, refresh_token=f"{name}-seeded")
        version = store.tokens.get(name).version
        assert store.tokens.save(name, pair(version + 1, name), version)
    return store


def columns(store, name, *wanted):
    with store.engine.connect() as connection:
        row = connection.execute(select(PORTALS).where(PORTALS.c.name == name)).mappings().one()
    return {column: row[column] for column in wanted}


def put(store, name, **values):
    with store.engine.begin() as connection:
        connection.execute(update(PORTALS).where(PORTALS.c.name == name).values(**values))


def secrets(store, name):
    tokens = store.tokens.get(name)
    return tokens.access, tokens.refresh, store.portals.get(name).client_secret


@pytest.mark.parametrize("column", ["access_token", "refresh_token"])
def test_a_token_in_the_row_of_another_portal_does_not_open(two, column):
    put(two, "globex", **columns(two, "acme", column))
    with pytest.raises(WrongKey, match=f"{column.replace('_', ' ')} of portal globex"):
        two.tokens.get("globex")
    assert secrets(two, "acme") == ("canary-a-acme", "canary-r-acme", "canary-secret")
    config = Config.load({"B24_DATA_DIR": "."})
    found = portal_statuses(two, Redis(port=1), config)
    assert [[issue.code for issue in status.issues if issue.code == "wrong_key"] for status in found] == [
        [],
        ["wrong_key"],
    ]


def test_a_token_in_another_column_does_not_open(two):
    put(two, "acme", refresh_token=columns(two, "acme", "access_token")["access_token"])
    with pytest.raises(WrongKey, match="refresh token of portal acme"):
        two.tokens.get("acme")


@pytest.mark.parametrize("column", ["client_endpoint", "auth_url"])
def test_nothing_opens_under_an_address_that_somebody_changed(two, column):
    put(two, "acme", **{column: "https://stranger.example/"})
    for read in (two.tokens.get, two.portals.get):
        with pytest.raises(WrongKey, match="of portal acme"):
            read("acme")


def test_set_url_and_a_new_authorization_server_take_the_secrets_along(two):
    before = secrets(two, "acme")
    two.portals.set_endpoint("acme", "https://new.example/rest/")
    assert secrets(two, "acme") == before
    two.portals.seed("acme", **{**PORTAL, "connector": "acme", "auth_url": "https://auth.new/"}, refresh_token="r")
    assert secrets(two, "acme") == before
    stored = columns(two, "acme", *SECRETS)
    put(two, "acme", client_endpoint="https://acme.example/rest/")
    with pytest.raises(WrongKey):
        two.tokens.get("acme")
    assert columns(two, "acme", *SECRETS) == stored, "an old address opens no new secret"


def test_an_address_is_not_changed_where_a_secret_does_not_open(two):
    put(two, "acme", refresh_token=columns(two, "globex", "refresh_token")["refresh_token"])
    with pytest.raises(WrongKey, match="refresh token of portal acme"):
        two.portals.set_endpoint("acme", "https://new.example/rest/")
    assert columns(two, "acme", "client_endpoint") == {"client_endpoint": PORTAL["client_endpoint"]}


def test_reencrypt_refuses_a_moved_secret_and_changes_nothing(two):
    put(two, "globex", **columns(two, "acme", "access_token"))
    before = [columns(two, name, *SECRETS) for name in ("acme", "globex")]
    other = Fernet.generate_key().decode()
    with pytest.raises(WrongKey, match="access_token of portals globex"):
        Store(two.engine, Cipher([other, KEY])).reencrypt()
    assert [columns(two, name, *SECRETS) for name in ("acme", "globex")] == before


def test_reencrypt_binds_secrets_of_the_earlier_form(two):
    put(two, "acme", refresh_token=Fernet(KEY).encrypt(b"earlier").decode())
    with pytest.raises(WrongKey, match="db reencrypt"):
        two.tokens.get("acme")
    assert two.reencrypt() == 2 * len(SECRETS)
    assert two.tokens.get("acme").refresh == "earlier"


def test_the_payload_of_another_dead_letter_does_not_open(store):
    first, second = add_dead_letter(store), add_dead_letter(store, record_id=5)
    with store.engine.begin() as connection:
        payload = connection.execute(select(DEAD_LETTERS.c.payload).where(DEAD_LETTERS.c.id == first)).scalar_one()
        connection.execute(update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == second).values(payload=payload))
    with pytest.raises(WrongKey, match=f"payload of dead letter {second}"):
        store.dead_letters.get(second)
