"""What operators do to portals in the store: add, want, move, authorize, remove, and clean up afterwards."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, delete, select, update

from b24offline.database import insert_into
from b24offline.errors import PortalExists, StoreError, WrongKey
from b24offline.portal import TAKEN_OVER, Portal, PortalState, Wish
from b24offline.portal_rows import PortalRows
from b24offline.store_tables import DEAD_LETTERS, PORTALS


class PortalAdmin(PortalRows):
    """Operators' changes; each is one transaction. They raise UnknownPortal where a name must exist and does not."""

    def add_portal(
        self,
        name: str,
        *,
        client_endpoint: str,
        auth_url: str,
        client_id: str,
        client_secret: str,
        connector: str,
        refresh_token: str,
    ) -> Portal:
        """Add a portal, or bring back a removed one with all of this in place of what it had.

        Of the queue it had before what is known of the ledger stays; in another one it was never polled.

        Raises PortalExists when the name is served already, or another name has the same queue; WrongKey, nothing
        changed, when the store was made with another key.
        """
        self._refuse_foreign_key()
        self._refuse_second_name(name, client_endpoint=client_endpoint, client_id=client_id, connector=connector)
        now = self._clock()
        values: dict[str, Any] = {
            "client_endpoint": client_endpoint,
            "auth_url": auth_url,
            "client_id": client_id,
            "client_secret": self._cipher.encrypt(client_secret),
            "connector": connector,
            "refresh_token": self._cipher.encrypt(refresh_token),
            "seeded_token": self._cipher.encrypt(refresh_token),
            "state": PortalState.ACTIVE.value,
            "state_reason": "",
            "state_actor": "",
            "state_since": now,
            "wish": Wish.RUN.value,
            "wish_since": now,
            "authorized_at": now,
            "refresh_claimed_until": 0.0,
            "refresh_not_before": 0.0,
        }
        row = insert_into(self._engine, PORTALS).values(name=name, created_at=now, token_version=1, **values)
        row = row.on_conflict_do_update(
            index_elements=[PORTALS.c.name],
            set_={
                **values,
                "token_version": PORTALS.c.token_version + 1,
                "ledger_generation": self._generation_in(
                    client_endpoint=client_endpoint, client_id=client_id, connector=connector
                ),
            },
            where=PORTALS.c.wish == Wish.REMOVED.value,
        )
        if not self._write_unique(name, row):
            raise PortalExists(
                f"Portal {name} is in the store already. To give it a new refresh token use portal authorize, "
                "to give it a new address portal set-url."
            )
        return self.portal(name)

    def set_wish(self, name: str, wish: Wish) -> None:
        """Note what the operator wants; the time is kept while that is the same.

        Wanting a portal to run ends the state REMOVED, so that it is tried again. Raises StoreError for a removed
        portal: only `add_portal` brings one back.
        """
        if wish is Wish.REMOVED:
            raise ValueError("a portal is removed with remove_portal")
        gone = (PORTALS.c.state == PortalState.REMOVED.value) if wish is Wish.RUN else None
        there = PORTALS.c.wish != Wish.REMOVED.value
        if not self._change_if(name, there & (PORTALS.c.wish != wish.value), wish=wish.value, wish_since=self._clock()):
            self._refuse_removed(name)
        if gone is not None:
            self._change_if(name, there & gone, **self._state(PortalState.ACTIVE, ""))

    def finish_drain(self, name: str) -> bool:
        """A draining portal has nothing open any more: it is paused from now on. False when it is not draining."""
        draining = PORTALS.c.wish == Wish.DRAINING.value
        return self._change_if(name, draining, wish=Wish.PAUSED.value, wish_since=self._clock())

    def remove_portal(self, name: str) -> None:
        """Forget a portal's tokens, secret and account, and never serve it again; harmless when that is done.

        The name stays, so that a configuration that still holds it does not bring it back.
        """
        self._change(
            name,
            wish=Wish.REMOVED.value,
            wish_since=self._clock(),
            client_secret=self._cipher.encrypt(""),
            access_token=None,
            refresh_token=None,
            seeded_token=None,
            member_id=None,
            expires_at=None,
            # A refresh that is under way finds another version and stores nothing.
            token_version=PORTALS.c.token_version + 1,
        )

    def take_over(self, name: str) -> bool:
        """Note that the records reserved in a portal that was never polled are this deployment's from now on.

        False, nothing changed, when it was polled or taken over before.
        """
        self._refuse_removed(name)
        if not self._change_if(name, PORTALS.c.ledger_generation.is_(None), ledger_generation=TAKEN_OVER):
            return False
        undecided = PORTALS.c.state == PortalState.UNDECIDED.value
        self._change_if(name, undecided, **self._state(PortalState.ACTIVE, ""))
        return True

    def set_endpoint(self, name: str, client_endpoint: str) -> None:
        """Use another endpoint from now on: an operator's confirmation that the portal has moved."""
        self._refuse_removed(name)
        self._change(name, client_endpoint=client_endpoint)

    def authorize(self, name: str, refresh_token: str) -> None:
        """Take a new refresh token, as after a new authorization; the next call refreshes with it.

        Raises WrongKey, nothing changed, when the key does not open what the portal has.
        """
        self._refuse_removed(name)
        self._change(name, **self._seeded(refresh_token))

    def set_client_secret(self, client_id: str, client_secret: str) -> list[str]:
        """Use another secret for an application from now on. Return the names of its portals, which all have it now.

        Raises WrongKey, nothing changed, when the store was made with another key.
        """
        self._refuse_foreign_key()
        ours = (PORTALS.c.client_id == client_id) & (PORTALS.c.wish != Wish.REMOVED.value)
        encrypted = self._cipher.encrypt(client_secret)
        with self._engine.begin() as connection:
            connection.execute(update(PORTALS).where(ours).values(client_secret=encrypted, refresh_not_before=0.0))
            return list(connection.execute(select(PORTALS.c.name).where(ours).order_by(PORTALS.c.name)).scalars())

    def clean(self, days: float, *, keep: str | None = None) -> tuple[int, int]:
        """Delete dead letters that ended, and portals that were removed, more than so many days ago.

        ``keep`` is the name that the configuration still holds: without its row it would be seeded anew. Returns how
        many letters and portals that were.
        """
        before = self._clock() - days * 86_400
        ended = delete(DEAD_LETTERS).where(DEAD_LETTERS.c.ended_at < before)
        removed = delete(PORTALS).where(PORTALS.c.wish == Wish.REMOVED.value, PORTALS.c.wish_since < before)
        with self._engine.begin() as connection:
            letters = connection.execute(ended).rowcount
            portals = connection.execute(removed.where(PORTALS.c.name != (keep or ""))).rowcount
        return letters, portals

    def _refuse_second_name(self, name: str, **queue: str) -> None:
        same = and_(*(PORTALS.c[column] == value for column, value in queue.items()))
        served = (PORTALS.c.wish != Wish.REMOVED.value) & (PORTALS.c.name != name)
        with self._engine.connect() as connection:
            other = connection.execute(select(PORTALS.c.name).where(same, served).limit(1)).scalar()
        if other is not None:
            raise PortalExists(
                f"Portal {other} has this address, application and connector already. "
                "Two names for one queue would poll it twice."
            )

    def _refuse_foreign_key(self) -> None:
        """Raise WrongKey when there are secrets and the cipher opens none: nobody else could open what it encrypts.

        One that opens is enough: a single row of another key must not keep the right one from mending it.
        """
        refused = None
        query = select(PORTALS.c.name, PORTALS.c.client_secret).order_by(PORTALS.c.created_at)
        with self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        for row in rows:
            try:
                self._opened(row, "client_secret")
            except WrongKey as error:
                refused = refused or error
            else:
                return
        if refused is not None:
            raise refused

    def _refuse_removed(self, name: str) -> None:
        if not self.portal(name).served:
            raise StoreError(f"Portal {name} was removed. Add it again with: b24offline portal add {name}")
