"""The mirror: the last known state of every object, in SQL. SQLite and PostgreSQL.

Order is decided by `read_at`, the ledger's clock in milliseconds taken *before* the object was read, not by
the order of arrival: a slow worker cannot overwrite what a faster one read later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from b24offline.errors import LedgerClockBehind
from b24offline.events import DesiredState
from b24offline.store.database import connected, insert_into, transaction
from b24offline.store.schema import OBJECTS, PORTALS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from b24offline.events import JSON

_ROWS_AT_ONCE: Final = 500
_PRUNED_AT_ONCE: Final = 5_000


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


@dataclass(frozen=True, slots=True)
class Reading:
    """An object as it was read from its portal.

    Attributes:
        entity, object_id: which.
        data: what it was; None when it was gone, which we learned when it was read.
        read_at: milliseconds of the ledger's clock before it was read.
        changed_at: its own modification date; None takes the time of reading.
    """

    entity: str
    object_id: str
    data: JSON = field(repr=False)
    read_at: int
    changed_at: datetime | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Entity and id."""
        return self.entity, self.object_id


class Mirror:
    """Reads and writes the table of objects through an engine of SQLite or PostgreSQL."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def write(self, portal: str, readings: Iterable[Reading]) -> set[tuple[str, str]]:
        """Store readings of a portal's objects by one statement. Return entity and id of those that were stored.

        An object is stored unless a later reading of it is; of two in one call the later counts. One that is gone keeps
        its last data, and an unknown one gets a row without; one that is there again is not deleted any more.
        """
        latest: dict[tuple[str, str], Reading] = {}
        for one in readings:
            if one.key not in latest or one.read_at >= latest[one.key].read_at:
                latest[one.key] = one
        rows = [_row_of(portal, one) for one in latest.values()]
        if not rows:
            return set()
        statement = insert_into(self._engine, OBJECTS)
        new, old = statement.excluded, OBJECTS.c
        gone = new.deleted_at.is_not(None)
        kept = {name: sa.case((gone, old[name]), else_=new[name]) for name in ("data", "changed_at")}
        newer = statement.on_conflict_do_update(
            index_elements=["portal", "entity", "object_id"],
            set_={**kept, "deleted_at": new.deleted_at, "read_at": new.read_at, "updated_at": new.updated_at},
            where=new.read_at >= old.read_at,
        ).returning(old.entity, old.object_id)
        with transaction(self._engine) as connection:
            return {(str(entity), str(object_id)) for entity, object_id in connection.execute(newer, rows)}

    def refuse_clock_behind(self, portal: str, entity: str, object_id: str, *, now_ms: int) -> None:
        """Raise LedgerClockBehind where the stored read lies ahead of ``now_ms``, the ledger's clock.

        A read that was not stored because of it is not older: the clock was set back in between.
        """
        row = self.row(portal, entity, object_id)
        if row is not None and row.read_at > now_ms:
            raise LedgerClockBehind(portal, f"{entity} {object_id}", (row.read_at - now_ms) / 1000)

    def row(self, portal: str, entity: str, object_id: str) -> MirrorRow | None:
        """Return one object, or None when the mirror does not know it."""
        found = sa.select(OBJECTS).where(
            OBJECTS.c.portal == portal, OBJECTS.c.entity == entity, OBJECTS.c.object_id == object_id
        )
        with connected(self._engine) as connection:
            first = connection.execute(found).mappings().first()
            return None if first is None else MirrorRow(**first)

    def rows(self, portal: str) -> Iterator[MirrorRow]:
        """Yield every object of a portal, deleted ones included, in the order of its key; read as a stream."""
        wanted = sa.select(OBJECTS).where(OBJECTS.c.portal == portal)
        ordered = wanted.order_by(OBJECTS.c.entity, OBJECTS.c.object_id)
        with connected(self._engine) as connection:
            streamed = connection.execution_options(yield_per=_ROWS_AT_ONCE)
            for found in streamed.execute(ordered).mappings():
                yield MirrorRow(**found)

    def stamps(self, portal: str, entity: str, object_ids: Collection[str]) -> dict[str, datetime]:
        """Return object id -> when it changed last as far as the mirror knows, of those that are not deleted."""
        wanted = sa.select(OBJECTS.c.object_id, OBJECTS.c.changed_at).where(
            OBJECTS.c.portal == portal,
            OBJECTS.c.entity == entity,
            OBJECTS.c.object_id.in_(object_ids),
            OBJECTS.c.deleted_at.is_(None),
        )
        with connected(self._engine) as connection:
            return {str(object_id): moment for object_id, moment in connection.execute(wanted)}

    def living(self, portal: str, entity: str, *, after: str, limit: int, prefix: str = "") -> list[str]:
        """Return ids after ``after`` that are not deleted and begin with the prefix, in the order of their text."""
        of = OBJECTS.c
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
        wanted = sa.select(sa.func.count()).select_from(OBJECTS).where(OBJECTS.c.portal == portal)
        with connected(self._engine) as connection:
            return int(connection.execute(wanted).scalar_one())

    def prune(self, before: float) -> int:
        """Delete objects that were deleted before (epoch seconds), and those of portals removed before or gone.

        Return how many. They are deleted some at a time: others write in between.
        """
        served = (PORTALS.c.desired_state != DesiredState.REMOVED.value) | (PORTALS.c.desired_since >= before)
        kept = sa.select(PORTALS.c.name).where(PORTALS.c.name == OBJECTS.c.portal, served)
        stale = ~sa.exists(kept) | (OBJECTS.c.deleted_at < datetime.fromtimestamp(before, UTC))
        key = OBJECTS.primary_key.columns
        some = sa.select(*key).where(stale).limit(_PRUNED_AT_ONCE)
        total = 0
        while True:
            with transaction(self._engine) as connection:
                deleted = connection.execute(sa.delete(OBJECTS).where(sa.tuple_(*key).in_(some))).rowcount
            total += deleted
            if deleted < _PRUNED_AT_ONCE:
                return total


def _row_of(portal: str, one: Reading) -> dict[str, Any]:
    def read() -> datetime:
        return datetime.fromtimestamp(one.read_at / 1000, UTC)

    return {
        "portal": portal,
        "entity": one.entity,
        "object_id": one.object_id,
        "data": without_infinities(one.data),
        "changed_at": one.changed_at or read(),
        "deleted_at": read() if one.data is None else None,
        "read_at": one.read_at,
        "updated_at": datetime.now(UTC),
    }


def without_infinities(data: JSON) -> JSON:
    """Return the same document with numbers that JSON cannot hold (infinities, not-a-number) replaced by null."""
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, list):
        return [without_infinities(item) for item in data]
    if isinstance(data, dict):
        return {key: without_infinities(item) for key, item in data.items()}
    return data
