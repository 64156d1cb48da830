"""Tables of the durable store and of the mirror, and the steps from an earlier version of them to this one.

Times are epoch seconds; what is marked secret is encrypted text. A process that finds the version it knows takes no
lock. Otherwise everything happens in one exclusive transaction, so that of many processes that start at once one
migrates and the others find it done, and a crash in between changes nothing. Steps only add, and a column that is added
has a default in the database: processes of the version before go on writing rows until they are replaced.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    insert,
    inspect,
    select,
    update,
)

from b24offline.errors import StoreError
from b24offline.store.database import begin_exclusive, connected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Dialect, Engine

SCHEMA_VERSION: Final = 1
"""Version of these tables, kept in the database beside them."""

STEPS: Final[Mapping[int, tuple[str, ...]]] = {}
"""Version -> the statements that lead to the next one; SQLite and PostgreSQL understand both."""


class UtcMoment(TypeDecorator[datetime]):
    """An aware datetime; SQLite, which knows no time zones, keeps it in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; naive ones are refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without time zone cannot be stored")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


METADATA: Final = MetaData()

PORTALS: Final = Table(
    "portals",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("member_id", String(64)),
    Column("client_endpoint", Text, nullable=False),
    Column("auth_url", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("client_secret", Text, nullable=False, info={"secret": True}),
    Column("connector", Text, nullable=False),
    Column("access_token", Text, info={"secret": True}),
    Column("refresh_token", Text, info={"secret": True}),
    # The refresh token that was configured last: tells a new authorization from one long used up.
    Column("seeded_token", Text, info={"secret": True}),
    Column("token_version", Integer, nullable=False),
    # By the database's clock, as workers' clocks may be wrong.
    Column("refresh_claimed_until", Double, nullable=False),
    Column("refresh_not_before", Double, nullable=False),
    # The version of the pair whose refresh token was refused: it is not tried again.
    Column("refused_version", Integer),
    Column("authorized_at", Double, nullable=False),
    Column("state", String(32), nullable=False),
    Column("state_reason", Text, nullable=False),
    Column("state_actor", String(32), nullable=False),
    Column("state_since", Double, nullable=False),
    Column("desired_state", String(16), nullable=False),
    Column("desired_since", Double, nullable=False),
    Column("ledger_epoch", BigInteger),
    Column("created_at", Double, nullable=False),
    # Two names for one queue would poll it twice at once.
    UniqueConstraint("member_id", "client_id", "connector", name="portals_one_name_per_queue"),
)

DEAD_LETTERS: Final = Table(
    "dead_letters",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("portal", String(64), nullable=False),
    Column("record_id", BigInteger, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("pipeline", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", Text, nullable=False, info={"secret": True}),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
)

OPEN_DEAD_LETTER: Final = Index(
    "dead_letters_open",
    DEAD_LETTERS.c.portal,
    DEAD_LETTERS.c.record_id,
    DEAD_LETTERS.c.pipeline,
    unique=True,
    sqlite_where=DEAD_LETTERS.c.ended_at.is_(None),
    postgresql_where=DEAD_LETTERS.c.ended_at.is_(None),
)
"""One open dead letter for a record and pipeline."""

OBJECTS: Final = Table(
    "objects",
    METADATA,
    Column("portal", Text, primary_key=True),
    Column("entity", Text, primary_key=True),
    Column("object_id", Text, primary_key=True),
    Column("data", JSON(none_as_null=True)),
    Column("changed_at", UtcMoment, nullable=False),
    Column("deleted_at", UtcMoment),
    Column("read_at", BigInteger, nullable=False),
    Column("updated_at", UtcMoment, nullable=False),
)
"""The mirror: one row an object.

`data` is a `json` column, not `jsonb`, in PostgreSQL: `jsonb` refuses the character U+0000, which customers' text may
hold. Numbers beyond the range of a double, which became infinities when they were read, turn into null. A query that
looks *into* a document with U+0000 fails in PostgreSQL; `WHERE position('\\u0000' in data::text) = 0` leaves such rows
out.
"""

VERSION: Final = Table(
    "schema_version",
    METADATA,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)


def migrate(engine: Engine) -> int:
    """Bring the store's tables to this program's version, making them where there are none.

    Return the version that was found, 0 for an empty database. Raise StoreError for one of a later version.
    """
    with connected(engine) as connection:
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
        return 0
    version: int = connection.execute(select(VERSION.c.version)).scalar_one()
    return version


def _bring_up(connection: Connection, found: int) -> None:
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"The database holds version {found} of the store, this program knows {SCHEMA_VERSION} at most. "
            "Run the program's version that belongs to it, or restore a backup."
        )
    if not found:
        METADATA.create_all(connection)
        connection.execute(insert(VERSION).values(only=1, version=SCHEMA_VERSION))
        return
    for version in range(found, SCHEMA_VERSION):
        for statement in STEPS[version]:
            connection.exec_driver_sql(statement)
    METADATA.create_all(connection)
    connection.execute(update(VERSION).values(version=SCHEMA_VERSION))
