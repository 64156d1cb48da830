"""A portal as the store knows it: who it is, what state it is in, which tokens it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime


class ObservedState(StrEnum):
    """What a portal lets us do at present, and so what polls, runs and settles may try."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Limits, failures of the portal, the network; it ends by itself."""
    AUTH_LOST = "auth_lost"
    """Ends when a poll or a refresh succeeds; once the refresh token was refused, when a new one is stored."""
    NOT_ADMIN = "not_admin"
    PLAN_TOO_SMALL = "plan_too_small"
    UNDECIDED = "undecided"
    """Never polled by this deployment, and somebody else's records were reserved; ends by claim or by another
    connector."""
    BLOCKED = "blocked"
    """Blocked by hand at the vendor."""
    REMOVED = "removed"
    """The account was deleted at the vendor; ends when an operator resumes or removes it."""


CLAIMED: Final = 0
"""A epoch that no ledger has: the first poll finds another one, and is as careful as after loss of the ledger."""


class DesiredState(StrEnum):
    """What the operator wants of a portal. Kept apart from its state: a call that succeeds ends no wish."""

    RUN = "run"
    PAUSED = "paused"
    """No polls, no adoption, no redrive; runs under way finish and settle."""
    DRAINING = "draining"
    """As paused, until nothing is open; it is paused then."""
    REMOVED = "removed"
    """Not served at all, its tokens deleted; the name is kept so that no configuration brings it back."""


@dataclass(frozen=True)
class Tokens:
    """A pair of tokens: ``access`` is ``""`` before the first refresh, ``refresh`` is ``""`` when none is
    known.

    ``expires_at`` is in epoch seconds, None when unknown. ``version`` counts the pairs a portal has had.
    ``refused``: the authorization server refused its refresh token, or another account answered to it.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: float | None
    version: int
    refused: bool = False


@dataclass(frozen=True)
class Portal:
    """One portal as the store knows it; times are aware datetimes.

    ``state`` is what was observed, ``desired_state`` what the operator asked for. ``state_actor`` says who must act
    before a state ends, in the words of `b24offline.errors.Actor`; ``""`` where the error did not tell.
    ``ledger_epoch`` is None until the first poll, `CLAIMED` until the first one after a claim.
    ``authorized_at`` is when a person authorized it last, ``token_version`` counts
    the pairs it has had.
    """

    name: str
    client_endpoint: str
    auth_url: str
    client_id: str
    client_secret: str = field(repr=False)
    connector: str
    member_id: str | None
    state: ObservedState
    state_reason: str
    state_since: datetime
    state_actor: str
    desired_state: DesiredState
    desired_since: datetime
    authorized_at: datetime
    token_version: int
    ledger_epoch: int | None
    created_at: datetime

    @property
    def polled(self) -> bool:
        """Whether its queue may be asked for records: polls, adoption and redrive."""
        return self.desired_state is DesiredState.RUN and self.state is not ObservedState.REMOVED

    @property
    def served(self) -> bool:
        """Whether what is open of it is still run and settled."""
        return self.desired_state is not DesiredState.REMOVED


@dataclass(frozen=True)
class RefreshWait:
    """How long a token refresh has to wait; ``failed`` when that is because the last one failed."""

    seconds: float
    failed: bool
