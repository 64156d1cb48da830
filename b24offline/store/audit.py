"""The audit log: what operators did, in lines that are only added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from b24offline.store.database import connected, storable, transaction
from b24offline.store.schema import AUDIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One command of an operator. ``portal`` is "" for a command that names none."""

    id: int
    at: datetime
    who: str
    portal: str
    command: str
    outcome: str


class AuditLog:
    """The audit log of a database; ``clock`` gives epoch seconds. Nothing changes or deletes a line."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, *, who: str, portal: str, command: str, outcome: str) -> None:
        """Add a line. The command must hold no secret."""
        line = {"who": who, "portal": portal, "command": command, "outcome": outcome}
        values = {name: storable(words) for name, words in line.items()}
        with transaction(self._engine) as connection:
            connection.execute(insert(AUDIT).values(at=self._clock(), **values))

    def last(self, limit: int, *, portal: str = "") -> Sequence[AuditLine]:
        """Return so many of the last lines, of one portal or of all, the newest last."""
        query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
        if portal:
            query = query.where(AUDIT.c.portal == portal)
        with connected(self._engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [AuditLine(**{**row, "at": datetime.fromtimestamp(row["at"], UTC)}) for row in reversed(rows)]
