"""From the first version of the store to this one, and from none; on SQLite and PostgreSQL."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from test_store import KEY, PORTAL, postgres_database

from b24offline.errors import StoreError
from b24offline.migrations import STEPS, migrate, version_of
from b24offline.portal import PortalState, Wish
from b24offline.store import Cipher, Store, make_engine
from b24offline.store_tables import METADATA, SCHEMA_VERSION

FIRST = (Path(__file__).parent / "store_version_1.sql").read_text()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/b24.db"
    else:
        with postgres_database() as address:
            yield address


def make_first_version(url):
    """The store as the first version left it, with its data."""
    engine, cipher = make_engine(url), Cipher([KEY])
    postgres = engine.dialect.name == "postgresql"
    statements = FIRST.format(
        double="DOUBLE PRECISION" if postgres else "DOUBLE",
        serial="BIGSERIAL" if postgres else "INTEGER",
        secret=cipher.encrypt("canary"),
        letter=cipher.encrypt('{"data": 1}'),
    )
    with engine.begin() as connection:
        for statement in statements.split(";\n"):
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def engine(url):
    engine = make_engine(url)
    yield engine
    engine.dispose()


def columns(engine):
    return {
        table: {column["name"]: column["nullable"] for column in inspect(engine).get_columns(table)}
        for table in METADATA.tables
    }


def test_an_older_store_is_brought_up_and_keeps_everything(url, engine):
    make_first_version(url)
    store = Store(url, Cipher([KEY]))
    store.create_schema()
    portal = store.portal("acme")
    assert (portal.wish, portal.state, portal.state_reason) == (Wish.RUN, PortalState.PAUSED, "a pause")
    assert (portal.state_since.timestamp(), portal.created_at.timestamp()) == (1000.5, 900.5)
    assert portal.wish_since == portal.authorized_at == portal.created_at
    assert (portal.ledger_generation, portal.token_version, portal.member_id) == (1 << 40, 7, "m1")
    assert (portal.client_secret, store.tokens("acme").refresh) == ("canary", "canary")
    assert store.dead_letter(5).payload == {"data": 1}
    store.set_wish("acme", Wish.PAUSED)
    with engine.connect() as connection:
        assert version_of(connection) == SCHEMA_VERSION
    store.engine.dispose()


@pytest.mark.parametrize("state", list(PortalState))
def test_a_refresh_token_that_may_have_been_refused_is_not_tried_after_an_upgrade(url, engine, state):
    make_first_version(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE portals SET state = :state"), {"state": state.value})
    store = Store(url, Cipher([KEY]))
    store.create_schema()
    assert store.tokens("acme").refused == (state is PortalState.AUTH_LOST)
    store.engine.dispose()


def test_a_migrated_store_has_the_columns_of_a_new_one(url, engine, tmp_path):
    make_first_version(url)
    assert migrate(engine) == 1
    new = make_engine(f"sqlite:///{tmp_path}/new.db")
    assert migrate(new) == 0
    assert columns(engine) == columns(new)
    new.dispose()


def test_migrating_again_changes_nothing(url, engine):
    make_first_version(url)
    assert [migrate(engine) for _ in range(3)] == [1, SCHEMA_VERSION, SCHEMA_VERSION]


def test_a_step_that_fails_leaves_the_older_store_as_it_was(url, engine, monkeypatch):
    make_first_version(url)
    before = {column["name"] for column in inspect(engine).get_columns("portals")}
    monkeypatch.setitem(STEPS, 1, (*STEPS[1], "ALTER TABLE nonsense ADD COLUMN x INTEGER"))
    with pytest.raises(Exception, match="nonsense"):
        migrate(engine)
    assert {column["name"] for column in inspect(engine).get_columns("portals")} == before
    monkeypatch.undo()
    assert migrate(engine) == 1


def test_a_version_that_was_never_noted_is_the_first(url, engine):
    make_first_version(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM schema_version")
    assert migrate(engine) == 1
    assert migrate(engine) == SCHEMA_VERSION


def test_a_later_store_is_refused_and_left_alone(url, engine):
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 99"))
    with pytest.raises(StoreError, match=rf"version 99 .* {SCHEMA_VERSION} at most"):
        migrate(engine)
    with engine.connect() as connection:
        assert version_of(connection) == 99


def test_rows_of_the_version_before_are_still_written_during_an_upgrade(url, engine):
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO portals (name, client_endpoint, auth_url, client_id, client_secret, connector, token_version,"
            " refresh_claimed_until, refresh_not_before, state, state_reason, state_since, created_at)"
            f" VALUES ('old', 'e', 'a', 'c', '{Cipher([KEY]).encrypt('s')}', 'b', 0, 0, 0, 'active', '', 5, 5)"
        )
    store = Store(engine, Cipher([KEY]))
    assert store.portal("old").wish is Wish.RUN
    assert store.portal("old").wish_since.timestamp() == 5


def upgrade_together(barrier, results, url, key):
    barrier.wait()
    store = Store(url, Cipher([key]))
    store.create_schema()
    store.seed_portal("acme", **PORTAL)
    results.put(store.portal("acme").wish.value)


def test_processes_that_upgrade_together_agree(url):
    make_first_version(url)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=upgrade_together, args=(barrier, results, url, KEY)) for _ in range(4)]
    for process in processes:
        process.start()
    assert {results.get(timeout=60) for _ in processes} == {"run"}
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
