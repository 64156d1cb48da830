"""Tables of the durable store and of the mirror, and the steps from an earlier version of them to this one.

Times are epoch seconds; what is marked secret is encrypted text. A process that finds the version it knows takes no
lock. Otherwise everything happens in one exclusive transaction, so that of many processes that start at once one
migrates and the others find it done, and a crash in between changes nothing. Steps only add, and a column that is added
has a default in the database: processes of the version before go on writing rows until they are replaced.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

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

SCHEMA_VERSION: Final = 3
"""Version of these tables, kept in the database beside them."""

READABLE_FROM: Final = 1
"""The oldest version that may work on these tables, kept beside it: raised by a step that does more than add."""

STEPS: Final[Mapping[int, tuple[str, ...]]] = {1: (), 2: ()}
"""Version -> the statements that lead to the next one; SQLite and PostgreSQL understand both. Tables that are missing
are made after them: 2 has that of the application tokens, 3 that of the installations.
"""


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
    # Another endpoint that the authorization server named last: an operator has confirmed the stored one, or must.
    Column("named_endpoint", Text),
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
    info={"binds": ("name", "client_endpoint", "auth_url")},
)

APPLICATION_TOKENS: Final = Table(
    "application_tokens",
    METADATA,
    # A table of its own, not a column of the portals: a process of the version before could not keep it readable when
    # it moves a portal's secrets to another address.
    Column("portal", String(64), primary_key=True),
    Column("token", Text, nullable=False, info={"secret": True}),
    info={"binds": ("portal",)},
)
"""What proves that a message comes from a portal."""

INSTALLATIONS: Final = Table(
    "installations",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("message", Text, nullable=False, info={"secret": True}),
    Column("received_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    info={"binds": ("id",)},
)
"""Installations that portals have told us of and that are not done yet."""

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
    info={"binds": ("portal", "record_id", "pipeline")},
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

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("portal", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)

VERSION: Final = Table(
    "schema_version",
    METADATA,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("readable_from", Integer, nullable=False),
)


def secrets_of(table: Table) -> list[str]:
    """Return the names of the columns that hold encrypted text."""
    return [column.name for column in table.columns if column.info.get("secret")]


def place_of(table: Table, column: str, row: Mapping[Any, Any]) -> list[str]:
    """Return what a secret is bound to: its table, its column, and the columns of its row named by ``binds``."""
    return [table.name, column, *(str(row[name]) for name in table.info["binds"])]


def migrate(engine: Engine) -> int:
    """Bring the store's tables to this program's version, making them where there are none.

    Return the version that was found, 0 for an empty database. One of a later version is left alone: it is used as it
    is if it says that this program may. Raise StoreError if not.
    """
    with connected(engine) as connection:
        found = version_of(connection)
        if found > SCHEMA_VERSION:
            _refuse_unreadable(connection, found)
        connection.rollback()
        if found < SCHEMA_VERSION:
            begin_exclusive(connection)
            found = version_of(connection)
            if found < SCHEMA_VERSION:
                _bring_up(connection, found)
            connection.commit()
    return found


def version_of(connection: Connection) -> int:
    """Return the version of the tables in a database, 0 where there are none."""
    if not inspect(connection).has_table(VERSION.name):
        return 0
    version: int = connection.execute(select(VERSION.c.version)).scalar_one()
    return version


def _refuse_unreadable(connection: Connection, found: int) -> None:
    readable_from = connection.execute(select(VERSION.c.readable_from)).scalar_one()
    if readable_from > SCHEMA_VERSION:
        raise StoreError(
            f"The database has schema version {found} and needs a program of schema version {readable_from} or newer; "
            f"this program has {SCHEMA_VERSION}. Start the newer program again, or stop everything and restore the "
            "backup that was made before the upgrade."
        )


def _bring_up(connection: Connection, found: int) -> None:
    for version in range(found, SCHEMA_VERSION) if found else ():
        for statement in STEPS[version]:
            connection.exec_driver_sql(statement)
    METADATA.create_all(connection)
    here = {"version": SCHEMA_VERSION, "readable_from": READABLE_FROM}
    connection.execute(update(VERSION).values(here) if found else insert(VERSION).values(only=1, **here))
