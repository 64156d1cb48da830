"""The tables of the store: made, led from one version to the next, and refused; on SQLite and PostgreSQL.

The step is made up: what every later one must keep is tested before there is one.
"""

from __future__ import annotations

import pytest
from sqlalchemy import inspect, text

from b24offline.config import Config
from b24offline.errors import StoreError, StoreUnavailable
from b24offline.store import Cipher, Store
from b24offline.store import schema as store_schema
from b24offline.store.database import make_engine
from b24offline.store.schema import METADATA, SCHEMA_VERSION, STEPS, migrate, version_of
from tests.support.store_bench import KEY, PORTAL, at_once

NEXT = SCHEMA_VERSION + 1
STEP = (
    "ALTER TABLE portals ADD COLUMN made_up VARCHAR(16) NOT NULL DEFAULT 'new'",
    "UPDATE portals SET made_up = 'old'",
)


@pytest.fixture
def engine(database_url):
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def next_version(monkeypatch):
    monkeypatch.setattr(store_schema, "SCHEMA_VERSION", NEXT)
    monkeypatch.setattr(store_schema, "STEPS", {**STEPS, SCHEMA_VERSION: STEP})


def noted(engine):
    with engine.connect() as connection:
        return version_of(connection)


def made_up(engine):
    with engine.connect() as connection:
        return dict(connection.execute(text("SELECT name, made_up FROM portals")).all())


def columns(engine, table="portals"):
    return {column["name"]: column["nullable"] for column in inspect(engine).get_columns(table)}


def served_before(engine):
    """A store of this version with a portal in it."""
    store = Store(engine, Cipher([KEY]))
    store.create_schema()
    store.portals.seed("acme", **PORTAL, refresh_token="r0")
    return store


def test_there_is_a_step_from_each_version_to_the_next():
    assert sorted(STEPS) == list(range(1, SCHEMA_VERSION))


def test_an_empty_database_gets_the_tables_of_this_version(engine):
    assert noted(engine) == 0
    assert [migrate(engine) for _ in range(3)] == [0, SCHEMA_VERSION, SCHEMA_VERSION]
    assert noted(engine) == SCHEMA_VERSION
    for name, table in METADATA.tables.items():
        assert columns(engine, name) == {column.name: column.nullable for column in table.columns}


def test_an_older_store_is_brought_up_and_keeps_everything(engine, next_version):
    with pytest.MonkeyPatch.context() as before:
        before.setattr(store_schema, "SCHEMA_VERSION", SCHEMA_VERSION)
        store = served_before(engine)
        portal = store.portals.get("acme")
    store.create_schema()
    assert (store.portals.get("acme"), store.tokens.get("acme").refresh) == (portal, "r0")
    assert made_up(engine) == {"acme": "old"}
    assert [migrate(engine), noted(engine)] == [NEXT, NEXT]


def test_rows_of_the_version_before_are_still_written_after_an_upgrade(engine, monkeypatch):
    store = served_before(engine)
    with monkeypatch.context() as later:
        later.setattr(store_schema, "SCHEMA_VERSION", NEXT)
        later.setattr(store_schema, "STEPS", {SCHEMA_VERSION: STEP})
        migrate(engine)
    store.portals.add("added", **{**PORTAL, "connector": "other"}, refresh_token="r1")
    store.portals.set_endpoint("acme", "https://new.example/rest/")
    assert made_up(engine) == {"acme": "old", "added": "new"}


def test_a_step_that_fails_leaves_the_older_store_as_it_was(engine, monkeypatch):
    served_before(engine)
    before = columns(engine)
    with monkeypatch.context() as later:
        later.setattr(store_schema, "SCHEMA_VERSION", NEXT)
        later.setattr(store_schema, "STEPS", {SCHEMA_VERSION: (*STEP, "ALTER TABLE nonsense ADD COLUMN x INTEGER")})
        with pytest.raises(StoreUnavailable):
            migrate(engine)
    assert (columns(engine), noted(engine)) == (before, SCHEMA_VERSION)


def note_version(engine, version, readable_from):
    with engine.begin() as connection:
        values = {"version": version, "readable_from": readable_from}
        connection.execute(text("UPDATE schema_version SET version = :version, readable_from = :readable_from"), values)


def test_a_later_store_that_only_got_more_is_used_and_left_alone(engine):
    store = served_before(engine)
    note_version(engine, 99, SCHEMA_VERSION)
    assert migrate(engine) == 99
    assert store.portals.names() == ["acme"]
    assert noted(engine) == 99


def test_a_later_store_that_this_version_cannot_use_is_refused_and_left_alone(engine):
    migrate(engine)
    note_version(engine, 99, 98)
    with pytest.raises(StoreError, match=rf"version 99 .* version 98 or newer; .* {SCHEMA_VERSION}\. Start the newer"):
        migrate(engine)
    assert noted(engine) == 99


def test_an_upgrade_says_from_which_version_on_it_can_be_used(engine, next_version, monkeypatch):
    monkeypatch.setattr(store_schema, "READABLE_FROM", NEXT)
    migrate(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version, readable_from FROM schema_version")).one() == (NEXT, NEXT)


def test_a_process_that_can_never_use_the_store_does_not_start(engine, database_url, tmp_path):
    from b24offline.tasks.celery_app import refuse_other_ledger  # noqa: PLC0415 - it reads the settings

    environ = {"B24_DATABASE_URL": database_url, "B24_DATA_DIR": str(tmp_path), "B24_SECRET_KEY": KEY}
    config = Config.load({**environ, "B24_REDIS_URL": "redis://127.0.0.1:1/0"})
    migrate(engine)
    refuse_other_ledger(config)
    note_version(engine, 99, 98)
    with pytest.raises(SystemExit, match=r"cannot start.*\n.*Start the newer program"):
        refuse_other_ledger(config)


def upgrade_together(database_url):
    store_schema.SCHEMA_VERSION, store_schema.STEPS = NEXT, {SCHEMA_VERSION: STEP}
    store = Store(database_url, Cipher([KEY]))
    store.create_schema()
    return made_up(store.engine)["acme"]


def test_processes_that_upgrade_together_agree(database_url, engine):
    served_before(engine)
    assert at_once(upgrade_together, 3, database_url) == {"old"}
