"""A portal as the store knows it: who it is, what state it is in, which tokens it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class PortalState(StrEnum):
    """What a portal lets us do at present, and so what polls, runs and settles may try."""

    ACTIVE = "active"
    PAUSED = "paused"
    """Limits, failures of the portal, the network; it ends by itself."""
    AUTH_LOST = "auth_lost"
    """Ends when a new refresh token is stored."""
    NOT_ADMIN = "not_admin"
    PLAN_TOO_SMALL = "plan_too_small"
    BLOCKED = "blocked"
    """Blocked by hand at the vendor."""
    REMOVED = "removed"
    """Removed by an operator, or the account is gone."""


@dataclass(frozen=True)
class Tokens:
    """A pair of tokens: ``access`` is ``""`` before the first refresh, ``refresh`` is ``""`` when none is
    known.

    ``expires_at`` is in epoch seconds, None when unknown. ``version`` counts the pairs a portal has had.
    """

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    expires_at: float | None
    version: int


@dataclass(frozen=True)
class Portal:
    """One portal as the store knows it; times are aware datetimes."""

    name: str
    client_endpoint: str
    auth_url: str
    client_id: str
    client_secret: str = field(repr=False)
    connector: str
    member_id: str | None
    state: PortalState
    state_reason: str
    state_since: datetime
    ledger_generation: int | None
    created_at: datetime


@dataclass(frozen=True)
class RefreshWait:
    """How long a token refresh has to wait; ``failed`` when that is because the last one failed."""

    seconds: float
    failed: bool
