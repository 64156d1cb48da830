"""What follows an error of a step: the table from error class to backoff. Pure.

Trouble of the portal (limits, 5xx, network, lost authorization, a move) and of our own stores is nobody's attempt and
is not counted. Errors that would come again for certain are final at once. Everything else is counted and backs off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from b24offline import errors
from b24offline.object_reader import NotReadable

if TYPE_CHECKING:
    from b24offline.timers import Timers

LONGEST_REPEAT_SECONDS: Final = 60.0
"""Longer waits live in the ledger: a Redis broker delivers a message twice that waits beyond its visibility timeout."""


class Permanent(errors.B24OfflineError):
    """Raised by a step that knows that trying again is useless; the event is reported as failed at once."""

    actor = "operator"


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after the wait. ``restart``: from the first step, by the ledger; else this step, by a message."""

    wait_seconds: float
    counted: bool
    restart: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The run failed. ``backoff_seconds`` is what the object's next run waits."""

    reason: str
    backoff_seconds: float


_FINAL: Final = (Permanent, NotReadable, errors.BadRequest, errors.MethodNotFound, errors.ConfigError)
_SOON: Final = (
    errors.QueryLimitExceeded,
    errors.Unreachable,
    errors.UnknownAnswer,
    errors.ExpiredToken,
    errors.AuthServerUnavailable,
    errors.Moved,
    errors.StoreUnavailable,
    RedisConnectionError,
    RedisTimeoutError,
)
_LATE: Final = (
    errors.AuthLost,
    errors.AccessDenied,
    errors.PlanTooSmall,
    errors.Overloaded,
    errors.PortalGone,
    errors.WrongAuthType,
    errors.InsufficientScope,
    errors.AuthServerError,
)


def decide(
    error: BaseException, *, failures: int, held: bool, max_attempts: int, timers: Timers, now_epoch: float
) -> Again | GiveUp:
    """What to do after ``error`` in a run that failed ``failures`` times before.

    A held run (of a record that was reported before) is never given up here: it may not be reported twice.
    """
    reason = type(error).__name__
    passing = uncounted_wait_seconds(error, timers, now_epoch)
    if passing is not None:
        return Again(passing, counted=False, restart=passing > LONGEST_REPEAT_SECONDS, reason=reason)
    if held:
        waits = timers.held_backoff_seconds
        return Again(waits[min(failures, len(waits) - 1)], counted=True, restart=True, reason=reason)
    waits = timers.step_backoff_seconds
    wait = waits[min(failures, len(waits) - 1)]
    if isinstance(error, _FINAL) or failures + 1 >= max_attempts:
        return GiveUp(reason, backoff_seconds=wait)
    return Again(wait, counted=True, restart=wait > LONGEST_REPEAT_SECONDS, reason=reason)


def uncounted_wait_seconds(error: BaseException, timers: Timers, now_epoch: float) -> float | None:
    """The wait after an error that is nobody's attempt; None for one that is counted."""
    soon, late = timers.step_backoff_seconds[2], timers.held_backoff_seconds[0]
    if isinstance(error, errors.PaceExceeded):
        return error.wait_seconds
    if isinstance(error, errors.OperationTimeLimit):
        told = error.reset_at - now_epoch if error.reset_at else late
        return min(max(told, timers.step_backoff_seconds[0]), timers.held_backoff_seconds[1])
    if isinstance(error, _SOON):
        return soon
    return late if isinstance(error, _LATE) else None
