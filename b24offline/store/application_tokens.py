"""The token by which a portal proves that a message is its own: one for each portal and application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from b24offline.errors import WrongKey
from b24offline.events import DesiredState
from b24offline.store.database import begin_exclusive, connected, transaction
from b24offline.store.schema import APPLICATION_TOKENS, PORTALS, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Engine

    from b24offline.store.cipher import Cipher


class ApplicationTokens:
    """The tokens of all portals, encrypted."""

    def __init__(self, engine: Engine, cipher: Cipher) -> None:
        self._engine = engine
        self._cipher = cipher

    def of_member(self, member_id: str) -> Mapping[str, str]:
        """Return portal -> token of the served portals of an account; "" where none is known, or none that opens."""
        tokens = PORTALS.outerjoin(APPLICATION_TOKENS, APPLICATION_TOKENS.c.portal == PORTALS.c.name)
        query = (
            select(PORTALS.c.name, APPLICATION_TOKENS.c.token)
            .select_from(tokens)
            .where(PORTALS.c.member_id == member_id, PORTALS.c.desired_state != DesiredState.REMOVED.value)
            .order_by(PORTALS.c.name)
        )
        with connected(self._engine) as connection:
            rows = connection.execute(query).all()
        return {name: self._opened(name, sealed) for name, sealed in rows}

    def save(self, portal: str, token: str) -> None:
        """Store a portal's token in place of the one before."""
        place = place_of(APPLICATION_TOKENS, "token", {"portal": portal})
        sealed = self._cipher.encrypt(token, place)
        with transaction(self._engine) as connection:
            begin_exclusive(connection)
            connection.execute(delete(APPLICATION_TOKENS).where(APPLICATION_TOKENS.c.portal == portal))
            connection.execute(insert(APPLICATION_TOKENS).values(portal=portal, token=sealed))

    def forget(self, portal: str) -> None:
        """Delete a portal's token; harmless where there is none."""
        with transaction(self._engine) as connection:
            connection.execute(delete(APPLICATION_TOKENS).where(APPLICATION_TOKENS.c.portal == portal))

    def _opened(self, portal: str, sealed: str | None) -> str:
        if not sealed:
            return ""
        try:
            place = place_of(APPLICATION_TOKENS, "token", {"portal": portal})
            return self._cipher.decrypt(sealed, place, f"the application token of portal {portal}")
        except WrongKey:
            return ""  # it is proved anew, as one that was never known
