"""What must not be lost: portals with their tokens, and dead letters, in SQLite or PostgreSQL.

Secrets are encrypted in the database and have no repr outside it. A `Store` belongs to one process and is
made after fork; its methods may be called from several threads.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, and_, case, or_, select, update
from sqlalchemy.exc import IntegrityError

from b24offline.cipher import Cipher, load_or_create_key
from b24offline.database import begin_exclusive, create_tables, insert_into, make_engine, storable
from b24offline.dead_letters import DeadLetter, DeadLetters
from b24offline.errors import MemberMismatch, StoreError, UnknownPortal
from b24offline.portal import Portal, PortalState, RefreshWait, Tokens
from b24offline.store_tables import DEAD_LETTERS, METADATA, PORTALS, SCHEMA_VERSION, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, RowMapping, Table

__all__ = [
    "Cipher",
    "DeadLetter",
    "Portal",
    "PortalState",
    "Store",
    "Tokens",
    "load_or_create_key",
    "make_engine",
]


_LONGEST_WAIT_SECONDS: Final = 600.0


class Store(DeadLetters):
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
        """Create the tables; safe when several processes start at once.

        Raises StoreError when the database was written by another version of the tables.
        """
        create_tables(self._engine, METADATA)
        row = insert_into(self._engine, VERSION).values(only=1, version=SCHEMA_VERSION)
        with self._engine.begin() as connection:
            connection.execute(row.on_conflict_do_nothing())
            found = connection.execute(select(VERSION.c.version)).scalar_one()
        if found != SCHEMA_VERSION:
            raise StoreError(
                f"The database holds version {found} of the store, this program needs {SCHEMA_VERSION}. "
                "Run the program's version that belongs to it, or restore a backup."
            )

    def portals(self) -> list[Portal]:
        """Return all portals by name."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(PORTALS).order_by(PORTALS.c.name)).mappings().all()
        return [self._portal(row) for row in rows]

    def portal(self, name: str) -> Portal:
        """Return one portal."""
        return self._portal(self._row(name))

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
        address follow the configuration; its endpoint does not (see `set_endpoint`). Its tokens stay, with
        two exceptions: it has none, or its authorization is lost and the configured refresh token is not
        the one seeded before.
        """
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
            created_at=now,
            token_version=0,
            refresh_claimed_until=0.0,
            refresh_not_before=0.0,
            **from_configuration,
        )
        row = row.on_conflict_do_update(index_elements=[PORTALS.c.name], set_=from_configuration)
        self._write_unique(name, row)
        if member_id:
            self.bind_member(name, member_id)
        if refresh_token:
            self._seed_token(name, refresh_token)
        return self.portal(name)

    def set_endpoint(self, name: str, client_endpoint: str) -> None:
        """Use another endpoint from now on: an operator's confirmation that the portal has moved."""
        self._change(name, client_endpoint=client_endpoint)

    def authorize(self, name: str, refresh_token: str) -> None:
        """Take a new refresh token, as after a new authorization; the next call refreshes with it."""
        self._change(name, **self._seeded(refresh_token))

    def tokens(self, name: str) -> Tokens:
        """Return the pair in the store."""
        row = self._row(name)
        return Tokens(
            access=self._opened(row, "access_token"),
            refresh=self._opened(row, "refresh_token"),
            expires_at=row["expires_at"],
            version=row["token_version"],
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

    def refresh_wait(self, name: str) -> RefreshWait:
        """Return for how long a refresh must wait, and whether that is because one has failed."""
        row, now = self._row(name), self._clock()
        delay, claim = row["refresh_not_before"] - now, row["refresh_claimed_until"] - now
        return RefreshWait(seconds=max(0.0, delay, claim), failed=delay > 0)

    def set_state(self, name: str, state: PortalState, reason: str = "", *, token_version: int | None = None) -> bool:
        """Set a portal's state with the reason that is shown to people; the time is kept while the state is
        the same.

        With ``token_version`` only if the pair in the store still has that version; tells whether it was set.
        """
        if token_version is not None:
            current = PORTALS.c.token_version == token_version
            return self._change_if(name, current, **self._state(state, reason))
        self._change(name, **self._state(state, reason))
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
            for row in connection.execute(select(table)).mappings().all():
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
            unchanged = PORTALS.c.token_version == row["token_version"]
            self._change_if(name, unchanged, **self._seeded(refresh_token))

    def _seeded(self, refresh_token: str) -> dict[str, Any]:
        """Return the values of a portal that only has a refresh token."""
        values = self._pair("", refresh_token, None, PORTALS.c.token_version + 1)
        return {**values, "seeded_token": values["refresh_token"]}

    def _pair(self, access: str, refresh: str, expires_at: float | None, version: Any) -> dict[str, Any]:
        """Return the values that come with a new pair; they end AUTH_LOST and leave every other state."""
        lost = PORTALS.c.state == PortalState.AUTH_LOST.value
        return {
            "access_token": self._cipher.encrypt(access) if access else None,
            "refresh_token": self._cipher.encrypt(refresh),
            "expires_at": expires_at,
            "token_version": version,
            "refresh_claimed_until": 0.0,
            "refresh_not_before": 0.0,
            "state": case((lost, PortalState.ACTIVE.value), else_=PORTALS.c.state),
            "state_reason": case((lost, ""), else_=PORTALS.c.state_reason),
            "state_since": case((lost, self._clock()), else_=PORTALS.c.state_since),
        }

    def _state(self, state: PortalState, reason: str) -> dict[str, Any]:
        since = case((PORTALS.c.state == state.value, PORTALS.c.state_since), else_=self._clock())
        return {"state": state.value, "state_reason": storable(reason), "state_since": since}

    def _change(self, name: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            done = connection.execute(update(PORTALS).where(PORTALS.c.name == name).values(**values)).rowcount
        if not done:
            raise _unknown(name)

    def _change_if(self, name: str, condition: ColumnElement[bool], **values: Any) -> bool:
        statement = update(PORTALS).where(PORTALS.c.name == name, condition).values(**values)
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount > 0

    def _write_unique(self, name: str, statement: Any) -> bool:
        """Execute a write that may meet the rule of one name per queue; tells whether a row was written."""
        written = None
        try:
            with self._engine.begin() as connection:
                written = connection.execute(statement).rowcount > 0
        except IntegrityError:
            pass
        if written is None:
            raise MemberMismatch(
                f"Portal {name} is the same Bitrix24 account, application and connector as another one "
                "in the store. Remove one of the two names, or give one another connector."
            )
        return written

    def _row(self, name: str) -> RowMapping:
        with self._engine.connect() as connection:
            row = connection.execute(select(PORTALS).where(PORTALS.c.name == name)).mappings().one_or_none()
        if row is None:
            raise _unknown(name)
        return row

    def _opened(self, row: RowMapping, column: str) -> str:
        secret = row[column]
        if secret is None:
            return ""
        return self._cipher.decrypt(secret, f"the {column.replace('_', ' ')} of portal {row['name']}")

    def _portal(self, row: RowMapping) -> Portal:
        return Portal(
            name=row["name"],
            client_endpoint=row["client_endpoint"],
            auth_url=row["auth_url"],
            client_id=row["client_id"],
            client_secret=self._opened(row, "client_secret"),
            connector=row["connector"],
            member_id=row["member_id"],
            state=PortalState(row["state"]),
            state_reason=row["state_reason"],
            state_since=datetime.fromtimestamp(row["state_since"], UTC),
            ledger_generation=row["ledger_generation"],
            created_at=datetime.fromtimestamp(row["created_at"], UTC),
        )


def _may_be(member_id: str) -> ColumnElement[bool]:
    return or_(PORTALS.c.member_id.is_(None), PORTALS.c.member_id == member_id)


def _mismatch(name: str, known: str, answered: str) -> MemberMismatch:
    return MemberMismatch(
        f"Portal {name} is recorded as the Bitrix24 account {known}, but {answered} answered. "
        "Check its address and refresh token; give another account another name."
    )


def _unknown(name: str) -> UnknownPortal:
    return UnknownPortal(f"No portal named {name} is in the store. Check the name, or configure the portal first.")
