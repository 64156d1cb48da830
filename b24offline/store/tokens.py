"""Pairs of tokens: durable, replaced by compare and set, refreshed by one process at a time.

Claims and waits go by the database's clock: a worker whose own is wrong neither takes a claim that another one holds,
nor keeps others out for longer than it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, case, or_

from b24offline.errors import MemberMismatch
from b24offline.events import DesiredState, ObservedState, Portal, RefreshWait, Tokens
from b24offline.store.database import now_in, storable
from b24offline.store.portal_rows import unknown, write
from b24offline.store.schema import PORTALS

if TYPE_CHECKING:
    from sqlalchemy import RowMapping

    from b24offline.store.portal_rows import PortalRows

_LONGEST_WAIT_SECONDS: Final = 600.0
"""A claim or a wait further ahead is not believed: the database's clock has been set back since."""


class TokenPairs:
    """The tokens of all portals. Methods raise UnknownPortal where there is none of that name."""

    def __init__(self, rows: PortalRows) -> None:
        self._rows = rows

    def get(self, name: str) -> Tokens:
        """Return the pair in the store. Raise WrongKey when the cipher does not open it."""
        row = self._rows.get(name)
        return Tokens(
            access=self._rows.opened(row, "access_token"),
            refresh=self._rows.opened(row, "refresh_token"),
            version=row["token_version"],
            refused=row["refused_version"] == row["token_version"],
            moved=row["state_reason"] if row["state"] == ObservedState.MOVED.value else "",
        )

    def portal(self, name: str) -> Portal:
        """Return the portal whose client and authorization address a refresh needs."""
        return self._rows.portal(self._rows.get(name))

    def save(
        self,
        name: str,
        tokens: Tokens,
        expected_version: int,
        *,
        member_id: str | None = None,
        named_endpoint: str | None = None,
    ) -> bool:
        """Store a pair durably if the one in the store still has ``expected_version``; return whether it did.

        The pair's own version must be the next one. Storing it ends the state AUTH_LOST and the claim to refresh. With
        ``member_id`` the account behind the name is noted, once: for another one MemberMismatch is raised and nothing
        stored. With ``named_endpoint``, one that differs from the portal's and was not confirmed, the portal is MOVED.
        """
        if tokens.version != expected_version + 1:
            raise ValueError(f"a pair that follows version {expected_version} has the next number")
        with self._rows.locked(name) as (connection, row):
            if row is None:
                raise unknown(name)
            if row["token_version"] != expected_version:
                return False
            _refuse_other_account(row, member_id)
            values = self._pair(row, tokens.access, tokens.refresh, tokens.version)
            if named_endpoint and named_endpoint not in (row["client_endpoint"], row["named_endpoint"]):
                values |= self._rows.state_values(ObservedState.MOVED, _moved(row, named_endpoint), "operator")
                values["named_endpoint"] = storable(named_endpoint)
            write(connection, name, {**values, "member_id": member_id or row["member_id"]})
        return True

    def claim_refresh(self, name: str, version: int, seconds: float) -> bool:
        """Reserve the refresh of the pair with this version for so many seconds; return False when another did."""
        now = now_in(self._rows.engine)
        free = [
            or_(until <= now, until > now + _LONGEST_WAIT_SECONDS)
            for until in (PORTALS.c.refresh_claimed_until, PORTALS.c.refresh_not_before)
        ]
        condition = and_(PORTALS.c.token_version == version, *free)
        return self._rows.change_if(name, condition, refresh_claimed_until=now + seconds)

    def delay_refresh(self, name: str, version: int, seconds: float) -> None:
        """After a failed refresh of this version, let go of the claim and delay the next try."""
        self._rows.change_if(
            name,
            PORTALS.c.token_version == version,
            refresh_claimed_until=0.0,
            refresh_not_before=now_in(self._rows.engine) + seconds,
        )

    def refuse_refresh(self, name: str, version: int, reason: str, *, actor: str) -> bool:
        """Note for good that this version's refresh token was refused, and the state AUTH_LOST with its reason.

        Only if the pair in the store still has that version; return whether it was noted.
        """
        lost = self._rows.state_values(ObservedState.AUTH_LOST, reason, actor)
        return self._rows.change_if(name, PORTALS.c.token_version == version, refused_version=version, **lost)

    def refresh_wait(self, name: str) -> RefreshWait:
        """Return for how long a refresh must wait, and whether that is because one has failed."""
        row = self._rows.get(name, now_in(self._rows.engine).label("now"))
        delay, claim = (
            left if 0 < (left := row[until] - row["now"]) <= _LONGEST_WAIT_SECONDS else 0.0
            for until in ("refresh_not_before", "refresh_claimed_until")
        )
        return RefreshWait(seconds=max(delay, claim), failed=delay > 0)

    def authorize(self, name: str, refresh_token: str, *, access_token: str = "", member_id: str = "") -> None:
        """Take a new pair, as after a new authorization; without an access token the next call refreshes.

        Raise StoreError for a removed portal, MemberMismatch for the pair of another account, and WrongKey, nothing
        changed, when the key does not open what the portal has.
        """
        self._rows.refuse_removed(name)
        with self._rows.locked(name) as (connection, row):
            if row is None:
                raise unknown(name)
            _refuse_other_account(row, member_id)
            values = self._authorized(row, refresh_token, access_token)
            write(connection, name, {**values, "member_id": member_id or row["member_id"]})

    def seed(self, name: str, refresh_token: str) -> None:
        """Take the configured refresh token if there is none, or if it is new and the authorization lost."""
        with self._rows.locked(name) as (connection, row):
            if row is None or row["desired_state"] == DesiredState.REMOVED.value:
                return
            lost = row["state"] == ObservedState.AUTH_LOST.value
            if row["refresh_token"] is None or (lost and self._rows.opened(row, "seeded_token") != refresh_token):
                write(connection, name, self._authorized(row, refresh_token))

    def _authorized(self, row: RowMapping, refresh_token: str, access_token: str = "") -> dict[str, Any]:
        """Return the values of a portal that was authorized anew."""
        values = self._pair(row, access_token, refresh_token, row["token_version"] + 1)
        seeded = self._rows.sealed(row, "seeded_token", refresh_token)
        return {**values, "seeded_token": seeded, "authorized_at": self._rows.clock()}

    def _pair(self, row: RowMapping, access: str, refresh: str, version: int) -> dict[str, Any]:
        """Return the values that come with a new pair; they end AUTH_LOST and leave every other state."""
        lost = PORTALS.c.state == ObservedState.AUTH_LOST.value
        return {
            "access_token": self._rows.sealed(row, "access_token", access) if access else None,
            "refresh_token": self._rows.sealed(row, "refresh_token", refresh),
            "token_version": version,
            "refresh_claimed_until": 0.0,
            "refresh_not_before": 0.0,
            "state": case((lost, ObservedState.ACTIVE.value), else_=PORTALS.c.state),
            "state_reason": case((lost, ""), else_=PORTALS.c.state_reason),
            "state_actor": case((lost, ""), else_=PORTALS.c.state_actor),
            "state_since": case((lost, self._rows.clock()), else_=PORTALS.c.state_since),
        }


def _refuse_other_account(row: RowMapping, member_id: str | None) -> None:
    """Raise MemberMismatch where a row is recorded for another account than the one that answered."""
    if member_id and row["member_id"] not in {None, member_id}:
        raise MemberMismatch(
            f"Portal {row['name']} is recorded as the Bitrix24 account {row['member_id']}, but {member_id} answered. "
            "Check its address and refresh token; give another account another name."
        )


def _moved(row: RowMapping, named: str) -> str:
    return (
        f"Portal {row['name']} is called at {row['client_endpoint']}, but the authorization server names {named}. "
        f"Nothing is sent to either until one is confirmed: b24offline portal set-url {row['name']} --url ADDRESS"
    )
