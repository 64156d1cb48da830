"""What an error of a portal says about its state, and when to look again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from b24offline import errors
from b24offline.rate_limit import BLOCK_SECONDS, PortalBlocked
from b24offline.store import PortalState


@dataclass(frozen=True, slots=True)
class Standing:
    """The state a portal is in, and the seconds until it is polled again."""

    state: PortalState
    wait_seconds: float


_TABLE: Final[tuple[tuple[type[errors.B24OfflineError], PortalState, float], ...]] = (
    (errors.AuthLost, PortalState.AUTH_LOST, 300),
    (errors.MemberMismatch, PortalState.AUTH_LOST, 300),
    # Not lost: the refresh token is good, and the next try may find the fault mended.
    (errors.ClientRejected, PortalState.PAUSED, 300),
    (errors.PaymentRequired, PortalState.PAUSED, 300),
    (errors.PlanTooSmall, PortalState.PLAN_TOO_SMALL, 300),
    (errors.WrongAuthType, PortalState.NOT_ADMIN, 300),
    (errors.InsufficientScope, PortalState.NOT_ADMIN, 300),
    (errors.AccessDenied, PortalState.NOT_ADMIN, 300),
    (errors.TakeoverNeeded, PortalState.UNDECIDED, 60),
    (errors.Overloaded, PortalState.BLOCKED, BLOCK_SECONDS),
    (errors.PortalGone, PortalState.REMOVED, 3600),
)
_PASSING_SECONDS: Final = 15.0


def standing_after(error: errors.B24OfflineError, *, now_epoch: float, time_scale: float = 1.0) -> Standing:
    """The standing of a portal after a call of the machinery failed. What passes by itself is only a pause."""
    if isinstance(error, PortalBlocked):
        # Perhaps a run was told of the block, and this is the first that may tell it to people.
        return Standing(PortalState.BLOCKED, error.wait_seconds)
    if isinstance(error, errors.PaceExceeded):
        return Standing(PortalState.ACTIVE, error.wait_seconds)
    for kind, state, wait in _TABLE:
        if isinstance(error, kind):
            return Standing(state, wait * time_scale)
    if isinstance(error, errors.OperationTimeLimit) and error.reset_at:
        return Standing(PortalState.PAUSED, min(600.0, max(1.0, error.reset_at - now_epoch)))
    return Standing(PortalState.PAUSED, _PASSING_SECONDS * time_scale)
