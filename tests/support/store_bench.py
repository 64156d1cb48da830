"""A durable store to test with, on SQLite and on PostgreSQL, and what is put into it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import secrets
from dataclasses import replace

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import create_engine, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from b24offline.events import Tokens
from b24offline.store import PORTALS

POSTGRES = os.environ.get("B24_TEST_DATABASE_URL", "postgresql+psycopg://127.0.0.1:5432/test")
KEY = Fernet.generate_key().decode()
PORTAL = {
    "client_endpoint": "https://acme.example/rest/",
    "auth_url": "https://auth.example/oauth/token/",
    "client_id": "app.1",
    "client_secret": "canary-secret",
    "connector": "b24offline",
}


@contextlib.contextmanager
def postgres_database(options=""):
    """A database of its own on the server, gone afterwards. ``options`` of CREATE DATABASE."""
    name = f"b24offline_test_{secrets.token_hex(6)}"
    admin = create_engine(POSTGRES, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} {options}"))
    except OperationalError as error:
        pytest.skip(f"PostgreSQL is not reachable; set B24_TEST_DATABASE_URL: {str(error.orig)[:80]}")
    try:
        yield make_url(POSTGRES).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


class Clock:
    now = 1_000_000.0

    def __call__(self):
        return self.now


def pair(version, name="x"):
    return Tokens(access=f"canary-a-{name}", refresh=f"canary-r-{name}", version=version)


def bind_member(store, name, member_id):
    """The account answers for a name, as with its first refresh; the pair stays as it was."""
    before = store.tokens.get(name)
    again = replace(before, version=before.version + 1)
    assert store.tokens.save(name, again, before.version, member_id=member_id)


def pass_time(store, seconds):
    """What waits by the database's clock waits for so much less."""
    columns = (PORTALS.c.refresh_claimed_until, PORTALS.c.refresh_not_before)
    with store.engine.begin() as connection:
        connection.execute(update(PORTALS).values({column: column - seconds for column in columns}))


def add_dead_letter(store, **other):
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
    return store.dead_letters.add(**{**values, **other})


def at_once(work, count, *arguments):
    """Call ``work`` in so many processes that begin together; return the set of what it returned."""
    context = multiprocessing.get_context("forkserver")
    # What all of them import is imported once.
    context.set_forkserver_preload(["b24offline.store", "tests.support.store_bench"])
    barrier, results = context.Barrier(count), context.Queue()
    processes = [context.Process(target=_call, args=(barrier, results, work, arguments)) for _ in range(count)]
    for process in processes:
        process.start()
    returned = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * count
    return returned


def _call(barrier, results, work, arguments):
    barrier.wait()
    results.put(work(*arguments))
