"""The states of one portal: what a failed or a successful call says about it, draining it, and removing it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from b24offline import errors
from b24offline.delivery.signal_handlers import SignalHandlers
from b24offline.errors import AuthLost, EndpointMismatch, MemberMismatch, PortalError, RateLimited, StoreError
from b24offline.events import DesiredState, ObservedState
from b24offline.rest import BLOCK_SECONDS, PortalBlocked, unbind_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Portal

log = logging.getLogger(__name__)

PortalFailure = PortalError | RateLimited | StoreError | errors.ClaimNeeded
"""What may end a poll, a settle or a sync, and is about the portal as a whole."""


@dataclass(frozen=True, slots=True)
class PortalBackOff:
    """The state a portal is in after a failed call, and the seconds until it is polled again."""

    state: ObservedState
    wait_seconds: float


_STATES: Final[tuple[tuple[type[errors.B24OfflineError], ObservedState, float], ...]] = (
    (errors.AuthLost, ObservedState.AUTH_LOST, 300),
    (errors.MemberMismatch, ObservedState.AUTH_LOST, 300),
    (errors.EndpointMismatch, ObservedState.MOVED, 300),
    # Not lost: the refresh token is good, and the next try may find the fault mended.
    (errors.ClientRejected, ObservedState.PAUSED, 300),
    (errors.AuthHostRefused, ObservedState.PAUSED, 300),
    (errors.EndpointRefused, ObservedState.PAUSED, 300),
    (errors.PaymentRequired, ObservedState.PAUSED, 300),
    (errors.PlanTooSmall, ObservedState.PLAN_TOO_SMALL, 300),
    (errors.WrongAuthType, ObservedState.NOT_ADMIN, 300),
    (errors.InsufficientScope, ObservedState.NOT_ADMIN, 300),
    (errors.AccessDenied, ObservedState.NOT_ADMIN, 300),
    (errors.ClaimNeeded, ObservedState.UNDECIDED, 60),
    (errors.Overloaded, ObservedState.BLOCKED, BLOCK_SECONDS),
    (errors.PortalGone, ObservedState.REMOVED, 3600),
)
_PASSING_SECONDS: Final = 15.0


def back_off_after(error: errors.B24OfflineError, *, now_epoch: float, time_scale: float = 1.0) -> PortalBackOff:
    """Return how to back off after a poll, a settle or a sync failed. What passes by itself is a pause. Pure."""
    if isinstance(error, PortalBlocked):
        # A step may have met the block first, and steps write no state.
        return PortalBackOff(ObservedState.BLOCKED, error.wait_seconds)
    if isinstance(error, errors.RateLimited):
        return PortalBackOff(ObservedState.ACTIVE, error.wait_seconds)
    if isinstance(error, errors.StoreUnavailable):
        # Our database is away, which says nothing about the portal, and nothing could be written down.
        return PortalBackOff(ObservedState.ACTIVE, _PASSING_SECONDS * time_scale)
    for kind, state, wait in _STATES:
        if isinstance(error, kind):
            return PortalBackOff(state, wait * time_scale)
    if isinstance(error, errors.OperationTimeLimit) and error.reset_at:
        return PortalBackOff(ObservedState.PAUSED, min(600.0, max(1.0, error.reset_at - now_epoch)))
    return PortalBackOff(ObservedState.PAUSED, _PASSING_SECONDS * time_scale)


class PortalLifecycle:
    """Writes the states of one portal into the store."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._ledger = portal.ledger
        self._portals = portal.store.portals
        self._time_scale = portal.config.time_scale

    def note_failure(self, error: PortalFailure) -> float:
        """Write the portal's state after a call failed. Return the seconds to back off."""
        name = self._portal.name
        back_off = back_off_after(error, now_epoch=time.time(), time_scale=self._time_scale)
        if back_off.state is ObservedState.ACTIVE or _is_known(self._portals.get(name), back_off.state, error.actor):
            return back_off.wait_seconds
        used = self._portal.tokens.version_used(name) if isinstance(error, AuthLost) else None
        stale = isinstance(error, AuthLost) and used is None
        if stale or not self._portals.set_state(
            name, back_off.state, str(error), actor=error.actor, token_version=used
        ):
            # Somebody authorized the portal anew while the call was under way with the pair before.
            self._portal.tokens.forget(name)
            return self._portal.config.poll_interval_min_seconds
        level = logging.WARNING if error.actor == "nobody" else logging.ERROR
        log.log(level, "polling suspended", extra={"portal": name, "state": back_off.state, "why": str(error)})
        return back_off.wait_seconds

    def note_success(self) -> None:
        """Make the portal active: a call of the machinery succeeded, so whatever suspended polling is over."""
        if self._portals.state(self._portal.name) is not ObservedState.ACTIVE:
            self._portal.rate_limiter.unblock(self._portal.name)
            self._portals.set_state(self._portal.name, ObservedState.ACTIVE, "")
            log.warning("portal is served again", extra={"portal": self._portal.name})

    def drained(self, portal: Portal, patience_seconds: float) -> bool:
        """Return whether nothing is left to settle. Dead-lettered events are: they may wait for a person for ever.

        A poll that was asked for just before the operator's order takes its lease a moment later, so the order must be
        ``patience_seconds`` old.
        """
        age_seconds = (datetime.now(UTC) - portal.desired_since).total_seconds()
        if age_seconds < patience_seconds or self._portal.fencing.poll_lease_left_seconds() > 0:
            return False
        return not self._ledger.working_batches()

    def finish_drain(self, portal: Portal, patience_seconds: float) -> None:
        """Pause a draining portal once it is drained."""
        if portal.desired_state is DesiredState.DRAINING and self.drained(portal, patience_seconds):
            self._portals.finish_drain(portal.name)
            log.warning("portal is drained and paused", extra={"portal": portal.name})

    def remove(self, *, force: bool) -> Iterator[str]:
        """Remove the portal and yield what was done. Its events are unsubscribed first, or its queue would grow.

        Raise `StoreError`, nothing changed, where something is open or the portal's events cannot be unsubscribed; with
        ``force`` that is said instead.
        """
        name = self._portal.name
        portal = self._portals.get(name)
        if not portal.served:
            yield f"Portal {name} is already removed."
            return
        if not force:
            self.refuse_open(portal)
        if portal.desired_state is not DesiredState.PAUSED:
            # No tick may subscribe again what is unsubscribed next.
            self._portals.set_desired_state(name, DesiredState.PAUSED)
        try:
            if portal.ledger_epoch is None:
                yield "This deployment has no subscriptions there: it has never polled the portal."
            else:
                yield f"{unbind_events(self._portal.client, portal.connector)} subscriptions were ended."
                SignalHandlers(self._portal).end()
        except (PortalError, RateLimited, MemberMismatch, EndpointMismatch, RedisError) as error:
            if not force:
                raise StoreError(
                    f"Portal {name} is not removed: its events are still subscribed. {error} {_FORCE}"
                ) from None
            yield f"Its events are still subscribed: {error} Its queue grows until the application is removed there."
        self._portals.remove(name)
        self._portal.store.application_tokens.forget(name)
        try:
            self._ledger.erase()
        except RedisError:
            yield "The ledger cannot be reached; the portal's keys stay in it until it is reset."
        yield f"Portal {name} is removed; its tokens are deleted."

    def refuse_open(self, portal: Portal) -> None:
        """Raise `StoreError` where the portal is not drained, something of it is open, or nobody knows."""
        name = portal.name
        if portal.desired_state is not DesiredState.PAUSED:
            raise StoreError(
                f"Portal {name} is not drained, its desired state is {portal.desired_state}. First: b24offline portal "
                f"drain {name} --wait"
            )
        try:
            left, dead_lettered = (
                len(self._ledger.working_batches()),
                len(self._ledger.open_batches()),
            )
        except RedisError as error:
            raise StoreError(
                f"Portal {name} is not removed: the ledger cannot be reached ({type(error).__name__}), so it is "
                f"unknown whether something is open. {_FORCE}"
            ) from None
        if left:
            raise StoreError(f"Portal {name} has {left} open batches. First: b24offline portal drain {name} --wait")
        if dead_lettered:
            raise StoreError(
                f"Portal {name} has {dead_lettered} dead letters. Redrive or drop them first: "
                f"b24offline dead-letter list --portal {name}. {_FORCE}"
            )


def _is_known(before: Portal, state: ObservedState, actor: str) -> bool:
    """Return whether the store has it already: another cause of the same state may be for another person to mend.

    Not of a lost authorization: once it is noted nothing is tried, and what is raised then does not say why.
    """
    return before.state is state and (state is ObservedState.AUTH_LOST or before.state_actor == actor)


_FORCE: Final = "With --force it is removed anyway."
