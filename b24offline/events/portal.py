"""A portal as a value: its identity, its states and its tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime


class ObservedState(StrEnum):
    """What a portal allows at present, and so what polls, runs and settles may try."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Limits, failures of the portal, the network; it ends by itself."""
    AUTH_LOST = "auth_lost"
    """Ends when a poll or a refresh succeeds; after the refresh token was refused, when a new one is stored."""
    NOT_ADMIN = "not_admin"
    PLAN_TOO_SMALL = "plan_too_small"
    UNDECIDED = "undecided"
    """Not yet polled by this deployment, and another one's records are reserved; ends by a claim or a new connector."""
    MOVED = "moved"
    """The authorization server names another endpoint: nothing is called until an operator confirms one."""
    BLOCKED = "blocked"
    """Blocked by hand at the vendor."""
    REMOVED = "removed"
    """The account was deleted at the vendor; ends when an operator resumes or removes it."""


CLAIMED: Final = 0
"""An epoch that no ledger has: the first poll finds a different one, and recovers as after the loss of the ledger."""


class DesiredState(StrEnum):
    """What the operator wants of a portal. Kept apart from its observed state: no call changes it."""

    RUN = "run"
    PAUSED = "paused"
    """No polls, no adoption, no redrive; runs under way finish and settle."""
    DRAINING = "draining"
    """As paused; becomes `PAUSED` when no batch is open."""
    REMOVED = "removed"
    """Not served, its tokens deleted; the name is kept so that no configuration adds it again."""


@dataclass(frozen=True)
class Tokens:
    """A pair of tokens.

    Attributes:
        access: "" before the first refresh.
        refresh: "" when none is known.
        version: counts the pairs a portal has had.
        refused: whether the authorization server refused the refresh token, or answered for another account.
        moved: what an operator must confirm before the pair may be used; "" when nothing.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    version: int
    refused: bool = False
    moved: str = ""


@dataclass(frozen=True)
class Portal:
    """One portal as the store knows it; times are aware datetimes.

    Attributes (of the others the name says all):
        state: what was observed; `desired_state` is what the operator asked for.
        state_actor: who must act before the state ends, a `b24offline.errors.Actor`; "" when unknown.
        authorized_at: when a person authorized it last.
        token_version: counts the pairs it has had.
        ledger_epoch: None until the first poll, `CLAIMED` until the first one after a claim.
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
        """Whether its queue may be read: by polls, adoption and redrive."""
        return self.desired_state is DesiredState.RUN and self.state is not ObservedState.REMOVED

    @property
    def served(self) -> bool:
        """Whether its open batches still run and settle."""
        return self.desired_state is not DesiredState.REMOVED


@dataclass(frozen=True)
class RefreshWait:
    """How long a token refresh must wait; ``failed``: because the last one failed."""

    seconds: float
    failed: bool
