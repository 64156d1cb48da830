"""A database that is away, and values that it refuses: one error each, in our own words, without a row's text."""

from __future__ import annotations

import logging
import traceback
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from cryptography.fernet import Fernet
from sqlalchemy import create_engine

from b24offline.cli import main
from b24offline.errors import StoreError, StoreUnavailable
from b24offline.events import DesiredState, ObservedState
from b24offline.store import Cipher, Mirror, Reading, Store
from b24offline.store.database import make_engine
from tests.support.store_bench import PORTAL, add_dead_letter, pair

UNREACHABLE = "postgresql://user:canary@127.0.0.1:1/db"
MOMENT = datetime(2026, 4, 3, tzinfo=UTC)
SECRET = "canary-of-a-row"


def rename(store, table, name):
    with store.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {name}")


def is_silent(error):
    """Return whether a log with the traceback quotes no row."""
    reply = "".join(traceback.format_exception(error))
    return "canary" not in reply


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.portals.list(),
        lambda store: store.portals.names(),
        lambda store: store.portals.polled_names(),
        lambda store: store.portals.get("acme"),
        lambda store: store.portals.seed("acme", **PORTAL),
        lambda store: store.portals.add("new", **{**PORTAL, "connector": "new"}, refresh_token=SECRET),
        lambda store: store.portals.set_desired_state("acme", DesiredState.PAUSED),
        lambda store: store.portals.set_state("acme", ObservedState.PAUSED),
        lambda store: store.portals.set_client_secret("app.1", SECRET),
        lambda store: store.portals.remove("acme"),
        lambda store: store.tokens.get("acme"),
        lambda store: store.tokens.save("acme", pair(2), 1),
        lambda store: store.tokens.claim_refresh("acme", 1, 30),
        lambda store: store.tokens.delay_refresh("acme", 1, 30),
        lambda store: store.tokens.refuse_refresh("acme", 1, SECRET, actor="operator"),
        lambda store: store.tokens.refresh_wait("acme"),
        lambda store: store.tokens.authorize("acme", SECRET),
        lambda store: store.dead_letters.list(),
        lambda store: store.dead_letters.get(1),
        lambda store: store.dead_letters.end(1),
        lambda store: store.dead_letters.count(),
        add_dead_letter,
        lambda store: store.prune(30),
        lambda store: store.reencrypt(),
    ],
)
def test_what_is_away_is_told_in_one_way(store, act):
    store.portals.seed("acme", **PORTAL, refresh_token=SECRET)
    rename(store, "portals", "portals_away")
    rename(store, "dead_letters", "dead_letters_away")
    with pytest.raises(StoreUnavailable, match="The database cannot be used") as caught:
        act(store)
    assert is_silent(caught.value)


def test_a_server_that_is_not_there_is_told_in_one_way():
    store = Store(UNREACHABLE, Cipher([Fernet.generate_key().decode()]))
    for act in (store.create_schema, store.portals.names):
        with pytest.raises(StoreUnavailable, match="OperationalError") as caught:
            act()
        assert is_silent(caught.value)


def test_all_connections_in_use_are_told_as_a_database_that_is_away(database_url):
    engine = create_engine(make_engine(database_url).url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect(), pytest.raises(StoreUnavailable, match="busy"):
        Store(engine, Cipher([Fernet.generate_key().decode()])).portals.names()
    engine.dispose()


def test_a_mirror_that_is_away_is_told_in_one_way(store):
    mirror = Mirror(store.engine)
    rename(store, "objects", "objects_away")
    for act in (
        lambda: mirror.write("acme", [Reading("crm_deal", "1", {"TITLE": SECRET}, 1)]),
        lambda: mirror.write("acme", [Reading("crm_deal", "1", None, 1)]),
        lambda: mirror.row("acme", "crm_deal", "1"),
        lambda: list(mirror.rows("acme")),
        lambda: mirror.stamps("acme", "crm_deal", ["1"]),
        lambda: mirror.living("acme", "crm_deal", after="", limit=5),
        lambda: mirror.count("acme"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            act()
        assert is_silent(caught.value)


def test_values_that_are_refused_are_no_outage(store):
    mirror = Mirror(store.engine)
    for act in (
        lambda: add_dead_letter(store, record_id=1 << 70, reason=SECRET),
        lambda: mirror.write("acme", [Reading("crm_deal", "1", {"TITLE": SECRET}, 1 << 70, MOMENT)]),
    ):
        with pytest.raises(StoreError, match="refuses these values") as caught:
            act()
        assert not isinstance(caught.value, StoreUnavailable)
        assert is_silent(caught.value)


def test_a_command_fails_with_a_sentence(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("B24_DATABASE_URL", UNREACHABLE)
    monkeypatch.setenv("B24_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("B24_SECRET_KEY", Fernet.generate_key().decode())
    reply = CliRunner().invoke(main, ["db", "upgrade"])
    assert (reply.exit_code, reply.output) == (
        1,
        "Error: The database cannot be used: OperationalError. Check B24_DATABASE_URL.\n",
    )
    assert "canary" not in caplog.text
