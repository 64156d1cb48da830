"""Portals in the durable store: read, brought in from the configuration, and changed by operators and workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from sqlalchemy import insert, select, true

from b24offline.errors import PortalExists, WrongKey
from b24offline.events import CLAIMED, DesiredState, ObservedState, Portal
from b24offline.store.database import begin_exclusive, connected, transaction
from b24offline.store.portal_rows import same_queue, write
from b24offline.store.schema import PORTALS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from b24offline.store.portal_rows import PortalRows
    from b24offline.store.tokens import TokenPairs

_SERVED: Final = PORTALS.c.desired_state != DesiredState.REMOVED.value


class Registration(TypedDict):
    """What a portal is added or seeded with, beside its first refresh token."""

    client_endpoint: str
    auth_url: str
    client_id: str
    client_secret: str
    connector: str


class Portals:
    """All portals; each change is one transaction. Methods raise UnknownPortal where a name must exist and does not."""

    def __init__(self, rows: PortalRows, tokens: TokenPairs) -> None:
        self._rows = rows
        self._tokens = tokens

    def list(self, *, secret: bool = True) -> Sequence[Portal]:
        """Return all portals by name, removed ones too; without ``secret`` as `get_without_secret`."""
        with connected(self._rows.engine) as connection:
            rows = connection.execute(select(PORTALS).order_by(PORTALS.c.name)).mappings().all()
        return [self._rows.portal(row, secret=secret) for row in rows]

    def unopened(self) -> dict[str, str]:
        """Return portal -> why one of its secrets cannot be opened, where one cannot; removed portals apart."""
        found: dict[str, str] = {}
        with connected(self._rows.engine) as connection:
            for row in connection.execute(select(PORTALS).where(_SERVED)).mappings():
                try:
                    for column in ("client_secret", "access_token", "refresh_token"):
                        self._rows.opened(row, column)
                except WrongKey as error:
                    found[row["name"]] = str(error)
        return found

    def polled_names(self) -> Sequence[str]:
        """Return the names of the portals that are `Portal.polled`; no secret is opened, as beat asks each second."""
        runs = PORTALS.c.desired_state == DesiredState.RUN.value
        return self._names(runs & (PORTALS.c.state != ObservedState.REMOVED.value))

    def draining_names(self) -> Sequence[str]:
        """Return the names of the portals that drain; no secret is opened."""
        return self._names(PORTALS.c.desired_state == DesiredState.DRAINING.value)

    def names(self, *, removed: bool = False) -> Sequence[str]:
        """Return the names of the portals that are `Portal.served`, with ``removed`` of all; no secret is opened."""
        return self._names(true() if removed else _SERVED)

    def get(self, name: str) -> Portal:
        """Return one portal."""
        return self._rows.portal(self._rows.get(name))

    def ledger_epoch(self, name: str) -> int | None:
        """Return the ledger epoch of one portal, as it is now; None for one that was never polled."""
        epoch: int | None = self._rows.value(name, PORTALS.c.ledger_epoch)
        return epoch

    def state(self, name: str) -> ObservedState:
        """Return the state of one portal, as it is now."""
        return ObservedState(self._rows.value(name, PORTALS.c.state))

    def get_served(self, name: str) -> Portal:
        """Return one portal. Raise StoreError for a removed one."""
        self._rows.refuse_removed(name)
        return self.get(name)

    def get_without_secret(self, name: str) -> Portal:
        """Return one portal to be shown; its client secret is not opened, and empty."""
        return self._rows.portal(self._rows.get(name), secret=False)

    def seed(self, name: str, *, refresh_token: str | None = None, **configured: Unpack[Registration]) -> Portal:
        """Bring a portal of the configuration into the store and return it as it is then.

        An absent portal is inserted. Of a present one the client, the connector and the authorization
        address follow the configuration; its endpoint does not (see `set_endpoint`), and the operator's
        desired state is kept. Its tokens stay, with two exceptions: it has none, or its authorization is lost and
        the configured refresh token is not the one seeded before. A removed one is left as it is.
        """
        with self._rows.locked(name) as (connection, row):
            if row is None:
                new = {**self._as_new(), **configured, "name": name, "token_version": 0}
                new["client_secret"] = self._rows.sealed(new, "client_secret", configured["client_secret"])
                connection.execute(insert(PORTALS).values(**new))
            elif row["desired_state"] != DesiredState.REMOVED.value:
                # Raises WrongKey before secrets are replaced by some that others cannot open.
                self._rows.opened(row, "client_secret")
                changed: dict[str, Any] = {
                    "auth_url": configured["auth_url"],
                    "client_id": configured["client_id"],
                    "connector": configured["connector"],
                }
                changed["client_secret"] = self._rows.sealed(
                    {**row, **changed}, "client_secret", configured["client_secret"]
                )
                if any(row[column] != changed[column] for column in ("connector", "client_id")):
                    changed["ledger_epoch"] = None  # another queue was never polled
                    if row["state"] == ObservedState.UNDECIDED.value:
                        changed.update(self._rows.state_values(ObservedState.ACTIVE, ""))
                write(connection, name, self._rows.rebound(row, **changed))
        if refresh_token:
            self._tokens.seed(name, refresh_token)
        return self.get(name)

    def add(
        self,
        name: str,
        *,
        refresh_token: str,
        access_token: str = "",
        member_id: str = "",
        **registration: Unpack[Registration],
    ) -> Portal:
        """Add a portal, or bring back a removed one with all of this in place of what it had.

        It keeps its ledger epoch if its queue is the same as before; another queue was never polled.

        Raise PortalExists when the name is served already, or another name has the same queue; WrongKey, nothing
        changed, when the store was made with another key.
        """
        queue = {
            "client_endpoint": registration["client_endpoint"],
            "client_id": registration["client_id"],
            "connector": registration["connector"],
        }
        self._rows.refuse_foreign_key()
        self._refuse_second_name(name, queue)
        with self._rows.locked(name) as (connection, row):
            if row is not None and row["desired_state"] != DesiredState.REMOVED.value:
                raise PortalExists(
                    f"Portal {name} is in the store already. To give it a new refresh token use portal authorize, "
                    "to give it a new address portal set-url."
                )
            values = {**self._as_new(), **registration, "name": name, "token_version": 1}
            values |= {"member_id": member_id or None, "access_token": None}
            given = {"client_secret": registration["client_secret"]}
            given |= dict.fromkeys(("refresh_token", "seeded_token"), refresh_token)
            given |= {"access_token": access_token} if access_token else {}
            values |= {column: self._rows.sealed(values, column, text) for column, text in given.items()}
            if row is None:
                connection.execute(insert(PORTALS).values(**values))
            else:
                same = all(row[column] == value for column, value in queue.items())
                again = {
                    "token_version": row["token_version"] + 1,
                    "ledger_epoch": row["ledger_epoch"] if same else None,
                }
                write(connection, name, {**values, "created_at": row["created_at"], **again})
        return self.get(name)

    def set_desired_state(self, name: str, desired_state: DesiredState) -> None:
        """Note what the operator wants; the time is kept while that is the same.

        RUN ends the state REMOVED, so that the portal is tried again. Raise StoreError for a removed portal: only
        `add` brings one back.
        """
        if desired_state is DesiredState.REMOVED:
            raise ValueError("a portal is removed with remove")
        if not self._rows.change_if(
            name,
            _SERVED & (PORTALS.c.desired_state != desired_state.value),
            desired_state=desired_state.value,
            desired_since=self._rows.clock(),
        ):
            self._rows.refuse_removed(name)
        if desired_state is DesiredState.RUN:
            gone = PORTALS.c.state == ObservedState.REMOVED.value
            self._rows.change_if(name, _SERVED & gone, **self._rows.state_values(ObservedState.ACTIVE, ""))

    def finish_drain(self, name: str) -> bool:
        """Pause a draining portal, as it has nothing open any more; return False when it is not draining."""
        draining = PORTALS.c.desired_state == DesiredState.DRAINING.value
        return self._rows.change_if(
            name, draining, desired_state=DesiredState.PAUSED.value, desired_since=self._rows.clock()
        )

    def remove(self, name: str) -> None:
        """Forget a portal's tokens, secret and account, and never serve it again; harmless when that is done.

        The name stays, so that a configuration that still holds it does not bring it back.
        """
        self._rows.change(
            name,
            desired_state=DesiredState.REMOVED.value,
            desired_since=self._rows.clock(),
            client_secret="",
            access_token=None,
            refresh_token=None,
            seeded_token=None,
            member_id=None,
            # A refresh that is under way finds another version and stores nothing.
            token_version=PORTALS.c.token_version + 1,
        )

    def claim(self, name: str) -> bool:
        """Note that the records reserved in a portal that was never polled are this deployment's from now on.

        Return False, nothing changed, when it was polled or claimed before.
        """
        self._rows.refuse_removed(name)
        if not self._rows.change_if(name, PORTALS.c.ledger_epoch.is_(None), ledger_epoch=CLAIMED):
            return False
        undecided = PORTALS.c.state == ObservedState.UNDECIDED.value
        self._rows.change_if(name, undecided, **self._rows.state_values(ObservedState.ACTIVE, ""))
        return True

    def set_endpoint(self, name: str, client_endpoint: str) -> None:
        """Use this endpoint from now on: an operator's confirmation that the portal has moved, or that it has not.

        What the authorization server named last is known from then on, and suspends the portal no more.
        """
        self._rows.refuse_removed(name)
        self._rows.change_bound(name, client_endpoint=client_endpoint)
        moved = PORTALS.c.state == ObservedState.MOVED.value
        self._rows.change_if(name, moved, **self._rows.state_values(ObservedState.ACTIVE, ""))

    def set_client_secret(self, client_id: str, client_secret: str) -> Sequence[str]:
        """Use another secret for an application from now on. Return the names of its portals, which all have it now.

        Raise WrongKey, nothing changed, when the store was made with another key.
        """
        self._rows.refuse_foreign_key()
        ours = (PORTALS.c.client_id == client_id) & _SERVED
        with transaction(self._rows.engine) as connection:
            begin_exclusive(connection)
            rows = connection.execute(select(PORTALS).where(ours).order_by(PORTALS.c.name)).mappings().all()
            for row in rows:
                sealed = self._rows.sealed(row, "client_secret", client_secret)
                write(connection, row["name"], {"client_secret": sealed, "refresh_not_before": 0.0})
        return [row["name"] for row in rows]

    def set_state(
        self,
        name: str,
        state: ObservedState,
        reason: str = "",
        *,
        actor: str = "",
        token_version: int | None = None,
    ) -> bool:
        """Set a portal's state, its reason and who must act (see `Portal`); return whether it was set.

        Its time is kept while the state is the same. With ``token_version`` it is set only if the pair in the store
        still has that version. Only `set_endpoint` ends MOVED: a call that was under way before says nothing about it.
        """
        settable = PORTALS.c.state != ObservedState.MOVED.value
        if token_version is not None:
            settable &= PORTALS.c.token_version == token_version
        if self._rows.change_if(name, settable, **self._rows.state_values(state, reason, actor)):
            return True
        self._rows.get(name)  # raises UnknownPortal
        return False

    def set_epoch(self, name: str, epoch: int | None) -> None:
        """Note which epoch of the ledger this portal was last seen with."""
        self._rows.change(name, ledger_epoch=epoch)

    def _names(self, condition: ColumnElement[bool]) -> Sequence[str]:
        query = select(PORTALS.c.name).where(condition).order_by(PORTALS.c.name)
        with connected(self._rows.engine) as connection:
            return list(connection.execute(query).scalars())

    def _refuse_second_name(self, name: str, queue: dict[str, str]) -> None:
        """Raise PortalExists when another served portal has the same queue."""
        others = self._names(same_queue(**queue) & _SERVED & (PORTALS.c.name != name))
        if others:
            raise PortalExists(
                f"Portal {others[0]} has this address, application and connector already. "
                "Two names for one queue would poll it twice."
            )

    def _as_new(self) -> dict[str, Any]:
        """Return the values that a portal begins with."""
        now = self._rows.clock()
        return {
            "state": ObservedState.ACTIVE.value,
            "state_reason": "",
            "state_actor": "",
            "state_since": now,
            "desired_state": DesiredState.RUN.value,
            "desired_since": now,
            "authorized_at": now,
            "created_at": now,
            "named_endpoint": None,
            "refresh_claimed_until": 0.0,
            "refresh_not_before": 0.0,
        }
