"""The mirror: the last known state of every object, in SQL. SQLite and PostgreSQL.

Order is decided by `read_at`, the ledger's clock in milliseconds taken *before* the object was read, not by
the order of arrival: a slow worker cannot overwrite what a faster one read later.

`data` is a `json` column, not `jsonb`, in PostgreSQL: `jsonb` refuses the character U+0000, which customers'
text may hold. The document is kept as text, so what was read comes back unchanged; only numbers beyond the
range of a double, which became infinities when they were read, turn into null. A query that looks *into* a
document with U+0000 fails in PostgreSQL; `WHERE position('\\u0000' in data::text) = 0` leaves such rows out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from b24offline.store.database import connected, transaction

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from b24offline.events import JSON

_SCHEMA_LOCK: Final = 0x62323461
"""Number of the advisory lock under which PostgreSQL creates the table; any constant of our own serves."""

_ROWS_AT_ONCE: Final = 500


class UtcMoment(sa.types.TypeDecorator[datetime]):
    """An aware datetime; SQLite, which knows no time zones, keeps it in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the moment in UTC; naive ones are refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without time zone cannot be stored")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the moment in UTC, aware."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = sa.MetaData()

objects = sa.Table(
    "objects",
    metadata,
    sa.Column("portal", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("object_id", sa.Text, primary_key=True),
    sa.Column("data", sa.JSON(none_as_null=True)),
    sa.Column("changed_at", UtcMoment, nullable=False),
    sa.Column("deleted_at", UtcMoment),
    sa.Column("read_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", UtcMoment, nullable=False),
)
"""One row an object; the key is portal, entity and id."""


@dataclass(frozen=True, slots=True)
class MirrorRow:
    """One object as the mirror knows it.

    Attributes:
        portal: name of the portal.
        entity: "crm_deal".
        object_id: "123", "1046:7".
        data: the object as its reading method returned it; None when it was deleted before anyone read it.
        changed_at: the object's own modification date, else when it was read; UTC.
        deleted_at: when we learned of its deletion; None while it exists.
        read_at: milliseconds of the ledger's clock before it was read.
        updated_at: when this row was last written; UTC.
    """

    portal: str
    entity: str
    object_id: str
    data: JSON = field(repr=False)
    changed_at: datetime
    deleted_at: datetime | None
    read_at: int
    updated_at: datetime


class Mirror:
    """Reads and writes the table of objects through an engine of SQLite or PostgreSQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def create_schema(self) -> None:
        """Create the table where it is missing; any number of processes may do so at once."""
        with transaction(self._engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            connection.execute(CreateTable(objects, if_not_exists=True))

    def upsert(
        self,
        portal: str,
        entity: str,
        object_id: str,
        data: JSON,
        *,
        changed_at: datetime | None,
        read_at: int,
    ) -> bool:
        """Store the state of an object that was read, unless a later reading or deletion is stored already.

        Args:
            portal: name of the portal.
            entity: "crm_deal".
            object_id: "123".
            data: the object.
            changed_at: its own modification date, aware; None takes the time of reading.
            read_at: milliseconds of the ledger's clock before it was read.

        Returns:
            Whether it was stored; a deletion older than it is forgotten then.
        """
        values: dict[str, object] = {
            "data": without_infinities(data),
            "changed_at": changed_at or datetime.fromtimestamp(read_at / 1000, UTC),
            "deleted_at": None,
        }
        return self._write(portal, entity, object_id, read_at, insert=values, update=values)

    def mark_deleted(self, portal: str, entity: str, object_id: str, *, at: datetime, read_at: int) -> bool:
        """Note that an object is gone, keeping its last data; unknown objects get a row without data.

        Args:
            portal: name of the portal.
            entity: "crm_deal".
            object_id: "123".
            at: when we learned of it, aware.
            read_at: milliseconds of the ledger's clock before we learned of it.

        Returns:
            Whether it was noted; not when a later reading is stored.
        """
        first = {"data": None, "changed_at": at, "deleted_at": at}
        return self._write(portal, entity, object_id, read_at, insert=first, update={"deleted_at": at})

    def row(self, portal: str, entity: str, object_id: str) -> MirrorRow | None:
        """Return one object, or None when the mirror does not know it."""
        found = sa.select(objects).where(
            objects.c.portal == portal, objects.c.entity == entity, objects.c.object_id == object_id
        )
        with connected(self._engine) as connection:
            first = connection.execute(found).mappings().first()
            return None if first is None else _row(first)

    def rows(self, portal: str) -> Iterator[MirrorRow]:
        """Yield every object of a portal, deleted ones included, in the order of its key; read as a stream."""
        wanted = sa.select(objects).where(objects.c.portal == portal)
        ordered = wanted.order_by(objects.c.entity, objects.c.object_id)
        with connected(self._engine) as connection:
            streamed = connection.execution_options(yield_per=_ROWS_AT_ONCE)
            for found in streamed.execute(ordered).mappings():
                yield _row(found)

    def stamps(self, portal: str, entity: str, object_ids: Collection[str]) -> dict[str, datetime]:
        """Return object id -> when it changed last as far as the mirror knows, of those that are not deleted."""
        wanted = sa.select(objects.c.object_id, objects.c.changed_at).where(
            objects.c.portal == portal,
            objects.c.entity == entity,
            objects.c.object_id.in_(object_ids),
            objects.c.deleted_at.is_(None),
        )
        with connected(self._engine) as connection:
            return {str(object_id): moment for object_id, moment in connection.execute(wanted)}

    def living(self, portal: str, entity: str, *, after: str, limit: int, prefix: str = "") -> list[str]:
        """Return ids after ``after`` that are not deleted and begin with the prefix, in the order of their text."""
        of = objects.c
        wanted = sa.select(of.object_id).where(
            of.portal == portal, of.entity == entity, of.deleted_at.is_(None), of.object_id > after
        )
        if prefix:
            wanted = wanted.where(of.object_id.startswith(prefix, autoescape=True))
        with connected(self._engine) as connection:
            return [
                str(object_id) for object_id in connection.execute(wanted.order_by(of.object_id).limit(limit)).scalars()
            ]

    def count(self, portal: str) -> int:
        """Return how many objects of a portal the mirror knows, deleted ones included."""
        wanted = sa.select(sa.func.count()).select_from(objects).where(objects.c.portal == portal)
        with connected(self._engine) as connection:
            return int(connection.execute(wanted).scalar_one())

    def _write(
        self,
        portal: str,
        entity: str,
        object_id: str,
        read_at: int,
        *,
        insert: dict[str, Any],
        update: dict[str, Any],
    ) -> bool:
        written = {"read_at": read_at, "updated_at": datetime.now(UTC)}
        key = {"portal": portal, "entity": entity, "object_id": object_id}
        statement = self._insert(objects).values(**key, **insert, **written)
        newer = statement.on_conflict_do_update(
            index_elements=list(key),
            set_={**update, **written},
            where=statement.excluded.read_at >= objects.c.read_at,
        ).returning(objects.c.read_at)
        with transaction(self._engine) as connection:
            return connection.execute(newer).first() is not None


def without_infinities(data: JSON) -> JSON:
    """Return the same document with numbers that JSON cannot hold (infinities, not-a-number) replaced by null."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, list):
        return [without_infinities(item) for item in data]
    if isinstance(data, dict):
        return {key: without_infinities(item) for key, item in data.items()}
    return data


def _row(values: sa.RowMapping) -> MirrorRow:
    return MirrorRow(**cast("dict[str, Any]", dict(values)))
