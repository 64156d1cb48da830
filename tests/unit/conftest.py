"""Fixtures of the durable store, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from store_bench import KEY, Clock, postgres_database

from b24offline.store import Cipher, Store


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/deep/b24.db"
    else:
        with postgres_database() as address:
            yield address


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(database_url, clock):
    store = Store(database_url, Cipher([KEY]), clock=clock)
    store.create_schema()
    yield store
    store.engine.dispose()
