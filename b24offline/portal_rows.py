"""Rows of portals: reading them into types, writing them under conditions. What the store's methods are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, null, select, update
from sqlalchemy.exc import IntegrityError

from b24offline.database import storable
from b24offline.errors import MemberMismatch, UnknownPortal
from b24offline.portal import Portal, PortalState, Wish
from b24offline.store_tables import PORTALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Engine, RowMapping

    from b24offline.cipher import Cipher


class PortalRows:
    """The portals' table of a database. ``_clock`` gives epoch seconds."""

    _engine: Engine
    _cipher: Cipher
    _clock: Callable[[], float]

    def portals(self) -> list[Portal]:
        """Return all portals by name, removed ones too."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(PORTALS).order_by(PORTALS.c.name)).mappings().all()
        return [self._portal(row) for row in rows]

    def polled_names(self) -> list[str]:
        """Return the names of the portals that are `Portal.polled`; no secret is opened, as beat asks each second."""
        polled = (PORTALS.c.wish == Wish.RUN.value) & (PORTALS.c.state != PortalState.REMOVED.value)
        with self._engine.connect() as connection:
            return list(connection.execute(select(PORTALS.c.name).where(polled).order_by(PORTALS.c.name)).scalars())

    def names(self, *, removed: bool = False) -> list[str]:
        """Return the names of the portals that are `Portal.served`, with ``removed`` of all; no secret is opened."""
        query = select(PORTALS.c.name).order_by(PORTALS.c.name)
        if not removed:
            query = query.where(PORTALS.c.wish != Wish.REMOVED.value)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def portal(self, name: str) -> Portal:
        """Return one portal."""
        return self._portal(self._row(name))

    def portal_without_secret(self, name: str) -> Portal:
        """Return one portal to be shown; its client secret is not opened, and empty."""
        return self._portal(self._row(name), secret=False)

    def _seeded(self, refresh_token: str) -> dict[str, Any]:
        """Return the values of a portal that only has a refresh token."""
        values = self._pair("", refresh_token, None, PORTALS.c.token_version + 1)
        return {**values, "seeded_token": values["refresh_token"], "authorized_at": self._clock()}

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
            "state_actor": case((lost, ""), else_=PORTALS.c.state_actor),
            "state_since": case((lost, self._clock()), else_=PORTALS.c.state_since),
        }

    def _state(self, state: PortalState, reason: str, actor: str = "") -> dict[str, Any]:
        since = case((PORTALS.c.state == state.value, PORTALS.c.state_since), else_=self._clock())
        return {"state": state.value, "state_reason": storable(reason), "state_since": since, "state_actor": actor}

    def _generation_in(self, **queue: str) -> ColumnElement[int | None]:
        """The generation that a row keeps while these columns stay as they are: another queue was never polled."""
        same = and_(*(PORTALS.c[column] == value for column, value in queue.items()))
        return case((same, PORTALS.c.ledger_generation), else_=null())

    def _change(self, name: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            done = connection.execute(update(PORTALS).where(PORTALS.c.name == name).values(**values)).rowcount
        if not done:
            raise unknown_portal(name)

    def _change_if(self, name: str, condition: ColumnElement[bool], **values: Any) -> bool:
        statement = update(PORTALS).where(PORTALS.c.name == name, condition).values(**values)
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount > 0

    def _write_unique(self, name: str, statement: Any) -> bool:
        """Execute a write that may meet the rule of one name per queue; tells whether a row was written."""
        written = None
        try:
            with self._engine.begin() as connection:
                # For an insert SQLAlchemy keeps the count only when told to.
                written = connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount > 0
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
            raise unknown_portal(name)
        return row

    def _opened(self, row: RowMapping, column: str) -> str:
        secret = row[column]
        if secret is None:
            return ""
        return self._cipher.decrypt(secret, f"the {column.replace('_', ' ')} of portal {row['name']}")

    def _portal(self, row: RowMapping, *, secret: bool = True) -> Portal:
        return Portal(
            name=row["name"],
            client_endpoint=row["client_endpoint"],
            auth_url=row["auth_url"],
            client_id=row["client_id"],
            client_secret=self._opened(row, "client_secret") if secret else "",
            connector=row["connector"],
            member_id=row["member_id"],
            state=PortalState(row["state"]),
            state_reason=row["state_reason"],
            state_since=datetime.fromtimestamp(row["state_since"], UTC),
            state_actor=row["state_actor"],
            wish=Wish(row["wish"]),
            wish_since=datetime.fromtimestamp(row["wish_since"] or row["created_at"], UTC),
            authorized_at=datetime.fromtimestamp(row["authorized_at"] or row["created_at"], UTC),
            token_version=row["token_version"],
            ledger_generation=row["ledger_generation"],
            created_at=datetime.fromtimestamp(row["created_at"], UTC),
        )


def unknown_portal(name: str) -> UnknownPortal:
    """The error for a name that the store does not know."""
    return UnknownPortal(f"No portal named {name} is in the store. Check the name, or configure the portal first.")
