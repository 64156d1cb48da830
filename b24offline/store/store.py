"""What must not be lost: portals with their tokens, and dead letters, in SQLite or PostgreSQL.

Secrets are encrypted in the database and have no repr outside it. A `Store` belongs to one process and is
made after fork; its methods may be called from several threads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import Engine, delete, select, update

from b24offline.events import DesiredState
from b24offline.store.database import begin_exclusive, connected, make_engine, transaction
from b24offline.store.dead_letters import DeadLetters
from b24offline.store.portal_rows import PortalRows
from b24offline.store.portals import Portals
from b24offline.store.schema import DEAD_LETTERS, PORTALS, migrate
from b24offline.store.tokens import TokenPairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table

    from b24offline.store.cipher import Cipher


class Store:
    """The durable store at a database URL, or on an engine that something else shares.

    ``clock`` gives epoch seconds. Reading a secret raises WrongKey when the cipher does not open it. A database that
    does not answer raises StoreUnavailable.

    Attributes:
        engine: for tables of others in the same database.
        portals: with observed and desired states.
        tokens: pairs of tokens, and who refreshes one.
        dead_letters: records that were given up until a person acts.
    """

    def __init__(self, url: str | Engine, cipher: Cipher, *, clock: Callable[[], float] = time.time) -> None:
        self.engine = make_engine(url) if isinstance(url, str) else url
        rows = PortalRows(self.engine, cipher, clock)
        self.tokens = TokenPairs(rows)
        self.portals = Portals(rows, self.tokens)
        self.dead_letters = DeadLetters(self.engine, cipher, clock)
        self._cipher = cipher
        self._clock = clock

    def create_schema(self) -> None:
        """Create the tables, or bring an earlier version of them up to date; safe when several processes
        start at once.

        Raise StoreError when the database was written by a later version of the tables.
        """
        migrate(self.engine)

    def prune(self, days: float, *, keep: str | None = None) -> tuple[int, int]:
        """Delete dead letters that ended, and portals that were removed, more than so many days ago.

        ``keep`` is the name that the configuration still holds: without its row it would be seeded anew. Return how
        many dead letters and portals that were.
        """
        before = self._clock() - days * 86_400
        ended = delete(DEAD_LETTERS).where(DEAD_LETTERS.c.ended_at < before)
        removed = delete(PORTALS).where(
            PORTALS.c.desired_state == DesiredState.REMOVED.value, PORTALS.c.desired_since < before
        )
        with transaction(self.engine) as connection:
            dead_letters = connection.execute(ended).rowcount
            portals = connection.execute(removed.where(PORTALS.c.name != (keep or ""))).rowcount
        return dead_letters, portals

    def reencrypt(self) -> int:
        """Encrypt every secret anew with the cipher's first key, as after adding one; return how many."""
        return sum(self._reencrypt(table) for table in (PORTALS, DEAD_LETTERS))

    def _reencrypt(self, table: Table) -> int:
        count = 0
        key = next(iter(table.primary_key.columns))
        secrets = [column.name for column in table.columns if column.info.get("secret")]
        with connected(self.engine) as connection:
            begin_exclusive(connection)
            # On PostgreSQL a token that is refreshed between reading and writing would be overwritten.
            for row in connection.execute(select(table).with_for_update()).mappings().all():
                changed = {
                    name: self._cipher.rotate(row[name], f"{name} of {table.name} {row[key.name]}")
                    for name in secrets
                    if row[name] is not None
                }
                connection.execute(update(table).where(key == row[key.name]).values(**changed))
                count += len(changed)
            connection.commit()
        return count
