"""Installations that portals have told us of and that are not done yet: kept before the portal is answered."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, or_, select, update

from b24offline.errors import WrongKey
from b24offline.store.database import connected, insert_into, now_in, transaction
from b24offline.store.schema import INSTALLATIONS, place_of

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from b24offline.store.cipher import Cipher

MOST_WAITING: Final = 1_000
"""Anybody can send one; what is not done within a day is deleted."""
FIRST_WAIT_SECONDS: Final = 60.0
"""Longer than an installation takes. Later waits grow with its age."""
KEPT_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Installation:
    """What a message says of an installation; nothing of it is proved."""

    member_id: str
    application_token: str = field(repr=False)
    refresh_token: str = field(repr=False)

    @property
    def id(self) -> str:
        """The same for each copy of a message."""
        return hashlib.sha256(f"{self.member_id} {self.refresh_token}".encode()).hexdigest()


class Installations:
    """The installations of all portals, encrypted. Times are of the database's clock."""

    def __init__(self, engine: Engine, cipher: Cipher) -> None:
        self._engine = engine
        self._cipher = cipher

    def keep(self, installation: Installation) -> bool:
        """Store one, for its sender to work on first. Return whether there was room."""
        row = {"id": installation.id}
        words = json.dumps([installation.member_id, installation.application_token, installation.refresh_token])
        sealed = self._cipher.encrypt(words, place_of(INSTALLATIONS, "message", row))
        now = now_in(self._engine)
        values = {"message": sealed, "received_at": now, "due_at": now + FIRST_WAIT_SECONDS}
        with transaction(self._engine) as connection:
            self._delete_old(connection)
            if connection.execute(select(func.count()).select_from(INSTALLATIONS)).scalar_one() >= MOST_WAITING:
                return False
            kept = insert_into(self._engine, INSTALLATIONS).values(**row, **values)
            connection.execute(kept.on_conflict_do_nothing(index_elements=["id"]))
        return True

    def take(self) -> Installation | None:
        """Return one that is due, None where there is none; no other process gets it until it is due again."""
        now = now_in(self._engine)
        late = INSTALLATIONS.c.due_at <= now
        with connected(self._engine) as connection:
            row = connection.execute(select(INSTALLATIONS).where(late).order_by(INSTALLATIONS.c.due_at).limit(1))
            found = row.mappings().one_or_none()
        if found is None:
            return None
        later = now + FIRST_WAIT_SECONDS + (now - INSTALLATIONS.c.received_at)
        mine = (INSTALLATIONS.c.id == found["id"]) & (INSTALLATIONS.c.due_at == found["due_at"])
        with transaction(self._engine) as connection:
            self._delete_old(connection)
            taken = connection.execute(update(INSTALLATIONS).where(mine).values(due_at=later)).rowcount
        return self._opened(found) if taken else None

    def done(self, installation: Installation) -> None:
        """Delete one that has been stored or refused; harmless where there is none."""
        self._delete(installation.id)

    def _opened(self, row: Any) -> Installation | None:
        try:
            words = self._cipher.decrypt(row["message"], place_of(INSTALLATIONS, "message", row), "an installation")
        except WrongKey:
            self._delete(row["id"])  # the portal installs again
            return None
        return Installation(*json.loads(words))

    def _delete(self, row_id: str) -> None:
        with transaction(self._engine) as connection:
            connection.execute(delete(INSTALLATIONS).where(INSTALLATIONS.c.id == row_id))

    def _delete_old(self, connection: Connection) -> None:
        """Of a clock that was set back as well."""
        age = now_in(self._engine) - INSTALLATIONS.c.received_at
        connection.execute(delete(INSTALLATIONS).where(or_(age > KEPT_SECONDS, age < -KEPT_SECONDS)))
