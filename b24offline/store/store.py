"""What must not be lost: portals with their tokens, and dead letters, in SQLite or PostgreSQL.

Secrets are encrypted in the database and have no repr outside it. A `Store` belongs to one process and is
made after fork; its methods may be called from several threads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Engine, delete, select, update

from b24offline.events import DesiredState
from b24offline.store.application_tokens import ApplicationTokens
from b24offline.store.audit import AuditLog
from b24offline.store.database import begin_exclusive, make_engine, transaction
from b24offline.store.dead_letters import DeadLetters
from b24offline.store.installations import Installations
from b24offline.store.mirror import Mirror
from b24offline.store.portal_rows import PortalRows
from b24offline.store.portals import Portals
from b24offline.store.schema import (
    APPLICATION_TOKENS,
    DEAD_LETTERS,
    INSTALLATIONS,
    PORTALS,
    migrate,
    place_of,
    secrets_of,
)
from b24offline.store.tokens import TokenPairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Table

    from b24offline.store.cipher import Cipher

_WITH_SECRETS: Final = (PORTALS, APPLICATION_TOKENS, INSTALLATIONS, DEAD_LETTERS)


class Pruned(NamedTuple):
    """How much was deleted because it was old."""

    dead_letters: int
    portals: int
    objects: int


class Store:
    """The durable store at a database URL, or on an engine that something else shares.

    ``clock`` gives epoch seconds; ``ca_file``: see `make_engine`. Reading a secret raises WrongKey when the cipher does
    not open it. A database that does not answer raises StoreUnavailable.

    Attributes:
        engine: for tables of others in the same database.
        portals: with observed and desired states.
        tokens: pairs of tokens, and who refreshes one.
        application_tokens: what proves that a message comes from a portal.
        installations: those that portals have told us of and that are not done yet.
        dead_letters: records that were given up until a person acts.
        audit: what operators did.
    """

    def __init__(
        self,
        url: str | Engine,
        cipher: Cipher,
        *,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.engine = make_engine(url, ca_file) if isinstance(url, str) else url
        rows = PortalRows(self.engine, cipher, clock)
        self.tokens = TokenPairs(rows)
        self.portals = Portals(rows, self.tokens)
        self.application_tokens = ApplicationTokens(self.engine, cipher)
        self.installations = Installations(self.engine, cipher)
        self.dead_letters = DeadLetters(self.engine, cipher, clock)
        self.audit = AuditLog(self.engine, clock)
        self._cipher = cipher
        self._clock = clock

    def create_schema(self) -> None:
        """Create the tables, or bring an earlier version of them up to date; safe when several processes
        start at once.

        Raise StoreError when the database was written by a later version of the tables.
        """
        migrate(self.engine)

    def prune(self, days: float, *, keep: str | None = None) -> Pruned:
        """Delete what ended more than so many days ago: dead letters, removed portals, and objects of the mirror.

        Of the mirror: objects that were deleted, and those of portals that were removed or are gone. ``keep`` is the
        name that the configuration still holds: without its row it would be seeded anew.
        """
        before = self._clock() - days * 86_400
        ended = delete(DEAD_LETTERS).where(DEAD_LETTERS.c.ended_at < before)
        removed = delete(PORTALS).where(
            PORTALS.c.desired_state == DesiredState.REMOVED.value, PORTALS.c.desired_since < before
        )
        with transaction(self.engine) as connection:
            dead_letters = connection.execute(ended).rowcount
            portals = connection.execute(removed.where(PORTALS.c.name != (keep or ""))).rowcount
        return Pruned(dead_letters, portals, Mirror(self.engine).prune(before))

    def reencrypt(self) -> int:
        """Encrypt every secret anew with the cipher's first key, in its present form; return how many.

        As after adding a key. Nothing is changed unless all of them open.
        """
        with transaction(self.engine) as connection:
            begin_exclusive(connection)
            return sum(self._reencrypt(connection, table) for table in _WITH_SECRETS)

    def _reencrypt(self, connection: Connection, table: Table) -> int:
        count = 0
        key = next(iter(table.primary_key.columns))
        # On PostgreSQL a token that is refreshed between reading and writing would be overwritten.
        for row in connection.execute(select(table).with_for_update()).mappings().all():
            changed = {
                name: self._cipher.rotate(
                    row[name], place_of(table, name, row), f"{name} of {table.name} {row[key.name]}"
                )
                for name in secrets_of(table)
                if row[name]
            }
            if changed:
                connection.execute(update(table).where(key == row[key.name]).values(**changed))
            count += len(changed)
        return count
