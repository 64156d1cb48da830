"""Leads a store of an earlier version to this one, step by step, and refuses a later one.

A process that finds the version it knows takes no lock. Otherwise everything happens in one exclusive transaction, so
that of many processes that start at once one migrates and the others find it done, and a crash in between changes
nothing. Steps only add: processes of the version before go on working until they are replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, inspect, select, update

from b24offline.database import begin_exclusive
from b24offline.errors import StoreError
from b24offline.store_tables import METADATA, PORTALS, SCHEMA_VERSION, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

STEPS: Final[Mapping[int, tuple[str, ...]]] = {
    1: (
        "ALTER TABLE portals ADD COLUMN state_actor VARCHAR(32) NOT NULL DEFAULT ''",
        "ALTER TABLE portals ADD COLUMN wish VARCHAR(16) NOT NULL DEFAULT 'run'",
        "ALTER TABLE portals ADD COLUMN wish_since DOUBLE PRECISION NOT NULL DEFAULT 0",
        "ALTER TABLE portals ADD COLUMN authorized_at DOUBLE PRECISION NOT NULL DEFAULT 0",
    ),
    2: (
        "ALTER TABLE portals ADD COLUMN refused_version INTEGER",
        # Which of them were refused by the authorization server was not noted.
        "UPDATE portals SET refused_version = token_version WHERE state = 'auth_lost'",
    ),
}
"""Version -> the statements that lead to the next one; SQLite and PostgreSQL understand both."""

_FIRST: Final = 1
"""Version of a store whose tables were made and whose version was not yet noted."""


def migrate(engine: Engine) -> int:
    """Bring the store's tables to this program's version, making them where there are none.

    Returns the version that was found, 0 for an empty database. Raises StoreError for one of a later version.
    """
    with engine.connect() as connection:
        found = version_of(connection)
        connection.rollback()
        if found != SCHEMA_VERSION:
            begin_exclusive(connection)
            found = version_of(connection)
            _bring_up(connection, found)
            connection.commit()
    return found


def version_of(connection: Connection) -> int:
    """Return the version of the tables in a database, 0 where there are none."""
    if not inspect(connection).has_table(VERSION.name):
        return _FIRST if inspect(connection).has_table(PORTALS.name) else 0
    return connection.execute(select(VERSION.c.version)).scalar() or _FIRST


def _bring_up(connection: Connection, found: int) -> None:
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"The database holds version {found} of the store, this program knows {SCHEMA_VERSION} at most. "
            "Run the program's version that belongs to it, or restore a backup."
        )
    if found:
        for version in range(found, SCHEMA_VERSION):
            for statement in STEPS[version]:
                connection.exec_driver_sql(statement)
    METADATA.create_all(connection)
    noted = connection.execute(update(VERSION).values(version=SCHEMA_VERSION)).rowcount
    if not noted:
        connection.execute(insert(VERSION).values(only=1, version=SCHEMA_VERSION))
