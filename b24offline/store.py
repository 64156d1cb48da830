"""What must not be lost: portals with their tokens, and dead letters, in SQLite or PostgreSQL.

Secrets are encrypted in the database and have no repr outside it. A `Store` belongs to one process and is
made after fork; its methods may be called from several threads.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine, and_, or_, select, update

from b24offline.cipher import Cipher, load_or_create_key
from b24offline.database import begin_exclusive, insert_into, make_engine
from b24offline.dead_letters import DeadLetter, DeadLetters
from b24offline.errors import MemberMismatch
from b24offline.migrations import migrate
from b24offline.portal import Portal, PortalState, RefreshWait, Tokens, Wish
from b24offline.portal_admin import PortalAdmin
from b24offline.store_tables import DEAD_LETTERS, PORTALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Table

__all__ = [
    "Cipher",
    "DeadLetter",
    "Portal",
    "PortalState",
    "Store",
    "Tokens",
    "Wish",
    "load_or_create_key",
    "make_engine",
]


_LONGEST_WAIT_SECONDS: Final = 600.0


class Store(DeadLetters, PortalAdmin):
    """The durable store at a database URL, or on an engine that something else shares.

    ``clock`` gives epoch seconds. Methods that name a portal raise UnknownPortal when there is none, and
    WrongKey when the cipher does not open what they read.
    """

    def __init__(self, url: str | Engine, cipher: Cipher, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(make_engine(url) if isinstance(url, str) else url, cipher, clock)

    @property
    def engine(self) -> Engine:
        """The engine, for tables of others in the same database."""
        return self._engine

    def create_schema(self) -> None:
        """Create the tables, or bring an earlier version of them up to date; safe when several processes
        start at once.

        Raises StoreError when the database was written by a later version of the tables.
        """
        migrate(self._engine)

    def seed_portal(
        self,
        name: str,
        *,
        client_endpoint: str,
        auth_url: str,
        client_id: str,
        client_secret: str,
        connector: str,
        refresh_token: str | None = None,
        member_id: str | None = None,
    ) -> Portal:
        """Bring a portal of the configuration into the store and return it as it is then.

        An absent portal is inserted. Of a present one the client, the connector and the authorization
        address follow the configuration; its endpoint does not (see `set_endpoint`), and the operator's
        wish is kept. Its tokens stay, with two exceptions: it has none, or its authorization is lost and
        the configured refresh token is not the one seeded before. A removed one is left as it is.
        """
        if name in self.names():
            self.portal(name)  # WrongKey before its secrets are replaced by some that others cannot open
        now = self._clock()
        from_configuration = {
            "auth_url": auth_url,
            "client_id": client_id,
            "client_secret": self._cipher.encrypt(client_secret),
            "connector": connector,
        }
        row = insert_into(self._engine, PORTALS).values(
            name=name,
            client_endpoint=client_endpoint,
            state=PortalState.ACTIVE.value,
            state_reason="",
            state_since=now,
            wish=Wish.RUN.value,
            wish_since=now,
            created_at=now,
            token_version=0,
            refresh_claimed_until=0.0,
            refresh_not_before=0.0,
            **from_configuration,
        )
        present = PORTALS.c.wish != Wish.REMOVED.value
        generation = {"ledger_generation": self._generation_in(connector=connector, client_id=client_id)}
        row = row.on_conflict_do_update(
            index_elements=[PORTALS.c.name], set_=from_configuration | generation, where=present
        )
        elsewhere = (PORTALS.c.connector != connector) | (PORTALS.c.client_id != client_id)
        moved = (PORTALS.c.state == PortalState.UNDECIDED.value) & elsewhere
        self._change_if(name, moved, **self._state(PortalState.ACTIVE, ""))
        if not self._write_unique(name, row):
            return self.portal(name)
        if member_id:
            self.bind_member(name, member_id)
        if refresh_token:
            self._seed_token(name, refresh_token)
        return self.portal(name)

    def tokens(self, name: str) -> Tokens:
        """Return the pair in the store."""
        row = self._row(name)
        return Tokens(
            access=self._opened(row, "access_token"),
            refresh=self._opened(row, "refresh_token"),
            expires_at=row["expires_at"],
            version=row["token_version"],
            refused=row["refused_version"] == row["token_version"],
        )

    def save_tokens(self, name: str, tokens: Tokens, expected_version: int, *, member_id: str | None = None) -> bool:
        """Store a pair durably if the one in the store still has ``expected_version``; tells whether it did.

        The pair's own version must be the next one. Storing it ends the state AUTH_LOST and the claim to
        refresh. With ``member_id`` that is noted too, or MemberMismatch raised and nothing stored, as in
        `bind_member`.
        """
        if tokens.version != expected_version + 1:
            raise ValueError(f"a pair that follows version {expected_version} has the next number")
        conditions = [PORTALS.c.name == name, PORTALS.c.token_version == expected_version]
        values = self._pair(tokens.access, tokens.refresh, tokens.expires_at, tokens.version)
        if member_id:
            conditions.append(_may_be(member_id))
            values["member_id"] = member_id
        if self._write_unique(name, update(PORTALS).where(*conditions).values(**values)):
            return True
        row = self._row(name)
        if row["token_version"] == expected_version:
            raise _mismatch(name, row["member_id"], str(member_id))
        return False

    def claim_refresh(self, name: str, version: int, seconds: float) -> bool:
        """Reserve the refresh of the pair with this version for so many seconds; False when another did.

        The guard that remains when the lock in Redis is unavailable or has run out.
        """
        now = self._clock()
        free = [
            # What lies further ahead than any wait was written by a clock that ran wrong.
            or_(until <= now, until > now + _LONGEST_WAIT_SECONDS)
            for until in (PORTALS.c.refresh_claimed_until, PORTALS.c.refresh_not_before)
        ]
        condition = and_(PORTALS.c.token_version == version, *free)
        return self._change_if(name, condition, refresh_claimed_until=now + seconds)

    def delay_refresh(self, name: str, version: int, seconds: float) -> None:
        """After a failed refresh of this version, let go of the claim and delay the next try."""
        self._change_if(
            name,
            PORTALS.c.token_version == version,
            refresh_claimed_until=0.0,
            refresh_not_before=self._clock() + seconds,
        )

    def refuse_refresh(self, name: str, version: int, reason: str, *, actor: str) -> bool:
        """Note for good that this version's refresh token was refused, and the state AUTH_LOST with its reason.

        Only if the pair in the store still has that version; tells whether it was noted.
        """
        lost = self._state(PortalState.AUTH_LOST, reason, actor)
        return self._change_if(name, PORTALS.c.token_version == version, refused_version=version, **lost)

    def refresh_wait(self, name: str) -> RefreshWait:
        """Return for how long a refresh must wait, and whether that is because one has failed."""
        row, now = self._row(name), self._clock()
        delay, claim = (
            # As in `claim_refresh`: no wait is so long.
            until - now if now < until <= now + _LONGEST_WAIT_SECONDS else 0.0
            for until in (row["refresh_not_before"], row["refresh_claimed_until"])
        )
        return RefreshWait(seconds=max(delay, claim), failed=delay > 0)

    def set_state(
        self,
        name: str,
        state: PortalState,
        reason: str = "",
        *,
        actor: str = "",
        token_version: int | None = None,
    ) -> bool:
        """Set a portal's state with the reason that is shown to people, and who must act (see `Portal`);
        the time is kept while the state is the same.

        With ``token_version`` only if the pair in the store still has that version; tells whether it was set.
        """
        if token_version is not None:
            current = PORTALS.c.token_version == token_version
            return self._change_if(name, current, **self._state(state, reason, actor))
        self._change(name, **self._state(state, reason, actor))
        return True

    def set_generation(self, name: str, generation: int | None) -> None:
        """Note which generation of the ledger this portal was last seen with."""
        self._change(name, ledger_generation=generation)

    def bind_member(self, name: str, member_id: str) -> None:
        """Note the member id of the account behind a name, once; raises MemberMismatch for another."""
        statement = update(PORTALS).where(PORTALS.c.name == name, _may_be(member_id))
        if not self._write_unique(name, statement.values(member_id=member_id)):
            raise _mismatch(name, self._row(name)["member_id"], member_id)

    def reencrypt(self) -> int:
        """Encrypt every secret anew with the cipher's first key, as after adding one; returns how many."""
        return sum(self._reencrypt(table) for table in (PORTALS, DEAD_LETTERS))

    def _reencrypt(self, table: Table) -> int:
        count = 0
        key = next(iter(table.primary_key.columns))
        secrets = [column.name for column in table.columns if column.info.get("secret")]
        with self._engine.connect() as connection:
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

    def _seed_token(self, name: str, refresh_token: str) -> None:
        """Take the configured refresh token if the store has none, or it is new and the old one dead."""
        row = self._row(name)
        lost = row["state"] == PortalState.AUTH_LOST.value
        if row["refresh_token"] is None or (lost and self._opened(row, "seeded_token") != refresh_token):
            # Another process may have seeded and refreshed since the row was read.
            unchanged = (PORTALS.c.token_version == row["token_version"]) & (PORTALS.c.wish != Wish.REMOVED.value)
            self._change_if(name, unchanged, **self._seeded(refresh_token))


def _may_be(member_id: str) -> ColumnElement[bool]:
    return or_(PORTALS.c.member_id.is_(None), PORTALS.c.member_id == member_id)


def _mismatch(name: str, known: str, answered: str) -> MemberMismatch:
    return MemberMismatch(
        f"Portal {name} is recorded as the Bitrix24 account {known}, but {answered} answered. "
        "Check its address and refresh token; give another account another name."
    )
