"""Rows of the portals' table: read into types, written under conditions."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, select, update
from sqlalchemy.exc import IntegrityError

from b24offline.errors import MemberMismatch, StoreError, UnknownPortal, WrongKey
from b24offline.events import DesiredState, ObservedState, Portal
from b24offline.store.database import begin_exclusive, connected, storable, transaction
from b24offline.store.schema import PORTALS, place_of, secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sqlalchemy import Column, ColumnElement, Connection, Engine, RowMapping

    from b24offline.store.cipher import Cipher


class PortalRows:
    """Access to the rows that `Portals` and `TokenPairs` share. ``clock`` gives epoch seconds."""

    def __init__(self, engine: Engine, cipher: Cipher, clock: Callable[[], float]) -> None:
        self.engine = engine
        self.cipher = cipher
        self.clock = clock

    def get(self, name: str, *also: ColumnElement[Any]) -> RowMapping:
        """Return one row, with what else is asked for. Raise UnknownPortal."""
        with connected(self.engine) as connection:
            row = connection.execute(select(PORTALS, *also).where(PORTALS.c.name == name)).mappings().one_or_none()
        if row is None:
            raise unknown(name)
        return row

    def value(self, name: str, column: Column[Any]) -> Any:
        """Return one value of a row. Raise UnknownPortal."""
        with connected(self.engine) as connection:
            found = connection.execute(select(column).where(PORTALS.c.name == name)).one_or_none()
        if found is None:
            raise unknown(name)
        return found[0]

    def refuse_removed(self, name: str) -> None:
        """Raise StoreError for a removed portal, and WrongKey when the cipher does not open what a portal has."""
        if not self.portal(self.get(name)).served:
            raise StoreError(f"Portal {name} was removed. Add it again with: b24offline portal add {name}")

    def change(self, name: str, **values: Any) -> None:
        """Write values into one row. Raise UnknownPortal."""
        statement = update(PORTALS).where(PORTALS.c.name == name).values(**values)
        with transaction(self.engine) as connection:
            written = connection.execute(statement).rowcount
        if not written:
            raise unknown(name)

    def change_if(self, name: str, condition: ColumnElement[bool], **values: Any) -> bool:
        """Write values into one row if the condition holds; return whether it was there and did."""
        statement = update(PORTALS).where(PORTALS.c.name == name, condition).values(**values)
        with transaction(self.engine) as connection:
            return connection.execute(statement).rowcount > 0

    @contextmanager
    def locked(self, name: str) -> Iterator[tuple[Connection, RowMapping | None]]:
        """Yield a row, None where there is none, that nobody else changes before the end of the transaction.

        For whoever writes secrets: they are bound to other columns, which must not change in between. Raise
        MemberMismatch where a write meets the rule of one name per queue.
        """
        with transaction(self.engine) as connection:
            begin_exclusive(connection)
            query = select(PORTALS).where(PORTALS.c.name == name).with_for_update()
            try:
                yield connection, connection.execute(query).mappings().one_or_none()
            except IntegrityError:
                raise MemberMismatch(
                    f"Portal {name} is the same Bitrix24 account, application and connector as another one "
                    "in the store. Remove one of the two names, or give one another connector."
                ) from None

    def change_bound(self, name: str, **values: Any) -> None:
        """Write values into one row, and encrypt its secrets for the row as it is then. Raise UnknownPortal."""
        with self.locked(name) as (connection, row):
            if row is None:
                raise unknown(name)
            write(connection, name, self.rebound(row, **values))

    def rebound(self, row: RowMapping, **values: Any) -> dict[str, Any]:
        """Return values to be written into a row; if they move its secrets, with those encrypted for the new place.

        Raise WrongKey when the cipher does not open one that stays.
        """
        after = {**row, **values}
        if place_of(PORTALS, "", row) == place_of(PORTALS, "", after):
            return values
        kept = [column for column in secrets_of(PORTALS) if row[column] and column not in values]
        return {**values, **{column: self.sealed(after, column, self.opened(row, column)) for column in kept}}

    def sealed(self, row: Mapping[Any, Any], column: str, text: str) -> str:
        """Return a secret encrypted for a row."""
        return self.cipher.encrypt(text, place_of(PORTALS, column, row))

    def refuse_foreign_key(self) -> None:
        """Raise WrongKey when there are secrets and the cipher opens none: nobody else could open what it encrypts.

        One that opens is enough: a single row of another key must not keep the right one from mending it.
        """
        query = select(PORTALS).where(PORTALS.c.client_secret != "").order_by(PORTALS.c.created_at)
        refused = None
        with connected(self.engine) as connection:
            for row in connection.execution_options(yield_per=100).execute(query).mappings():
                try:
                    self.opened(row, "client_secret")
                except WrongKey as error:
                    refused = refused or error
                else:
                    return
        if refused:
            raise refused

    def opened(self, row: RowMapping, column: str) -> str:
        """Return a secret of a row, ``""`` where there is none. Raise WrongKey when the cipher does not open it."""
        secret = row[column]
        if not secret:
            return ""
        what = f"the {column.replace('_', ' ')} of portal {row['name']}"
        return self.cipher.decrypt(secret, place_of(PORTALS, column, row), what)

    def state_values(self, state: ObservedState, reason: str, actor: str = "") -> dict[str, Any]:
        """Return the values that put a portal into a state; its time is kept while the state is the same."""
        since = case((PORTALS.c.state == state.value, PORTALS.c.state_since), else_=self.clock())
        return {"state": state.value, "state_reason": storable(reason), "state_since": since, "state_actor": actor}

    def portal(self, row: RowMapping, *, secret: bool = True) -> Portal:
        """Return the portal of a row; without ``secret`` its client secret is not opened, and empty."""
        return Portal(
            name=row["name"],
            client_endpoint=row["client_endpoint"],
            auth_url=row["auth_url"],
            client_id=row["client_id"],
            client_secret=self.opened(row, "client_secret") if secret else "",
            connector=row["connector"],
            member_id=row["member_id"],
            state=ObservedState(row["state"]),
            state_reason=row["state_reason"],
            state_since=datetime.fromtimestamp(row["state_since"], UTC),
            state_actor=row["state_actor"],
            desired_state=DesiredState(row["desired_state"]),
            desired_since=datetime.fromtimestamp(row["desired_since"], UTC),
            authorized_at=datetime.fromtimestamp(row["authorized_at"], UTC),
            token_version=row["token_version"],
            ledger_epoch=row["ledger_epoch"],
            created_at=datetime.fromtimestamp(row["created_at"], UTC),
        )


def same_queue(**queue: str) -> ColumnElement[bool]:
    """Return the condition that a row has these values of the columns that make a queue."""
    return and_(*(PORTALS.c[column] == value for column, value in queue.items()))


def write(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    """Write values into the row of a portal."""
    connection.execute(update(PORTALS).where(PORTALS.c.name == name).values(**values))


def unknown(name: str) -> UnknownPortal:
    """Return the error for a name that is not in the store."""
    return UnknownPortal(f"No portal named {name} is in the store. Check the name, or connect the portal first.")
