"""What follows an error of a step: the table from error class to backoff. Pure.

Trouble of the portal (limits, 5xx, network, lost authorization, a move) and of our own stores is not counted as an
attempt. What a portal refuses for one object while it answers for others is that object's failure, as any error of a
step. Errors that would come again for certain are final at once. Everything else is counted and backs off, as
the step, its pipeline or the deployment says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from b24offline import errors
from b24offline.delivery.object_reader import NotReadable
from b24offline.events import PASSING_LATE, PASSING_SOON

if TYPE_CHECKING:
    from b24offline.config import Timers
    from b24offline.events import RetryRules

LONGEST_REPEAT_SECONDS: Final = 60.0
"""Longer waits live in the ledger: a Redis broker delivers a message twice that waits beyond its visibility timeout."""


class Permanent(errors.B24OfflineError):
    """Raised by a step for which a retry is useless; the event is nacked as failed at once."""

    actor: ClassVar[errors.Actor] = "operator"


@dataclass(frozen=True, slots=True)
class RetryIn:
    """Try again after the wait. ``restart``: from the first step, by the ledger; else this step, by a message."""

    wait_seconds: float
    counted: bool
    restart: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """The run failed. ``backoff_seconds`` is what the object's next run waits."""

    reason: str
    backoff_seconds: float


@dataclass(frozen=True, slots=True)
class Exhaust:
    """A retrying run failed in a way that would come again for certain: it waits for a person now, not after days."""

    reason: str


Verdict = RetryIn | Fail | Exhaust

_FINAL: Final = (
    Permanent,
    NotReadable,
    errors.BadRequest,
    errors.MethodNotFound,
    errors.ConfigError,
    # Mistakes in the code, which is the same at the next try. Not KeyError or ValueError: what was read may be.
    TypeError,
    AttributeError,
    NameError,
    ImportError,
    NotImplementedError,
    SyntaxError,
)


_MAY_CONCERN_OBJECT: Final = (errors.UnknownAnswer, errors.AccessDenied, errors.InsufficientScope)


def may_concern_object(error: BaseException) -> bool:
    """Return whether a portal may have refused a call for the object it was about, and answer all others."""
    return isinstance(error, _MAY_CONCERN_OBJECT) and not isinstance(error, errors.NotAdministrator)


def refused_too_long(error: BaseException, age_seconds: float, timers: Timers) -> bool:
    """Return whether a run of this age is given up over an error that may concern its object. See `Timers`."""
    away = isinstance(error, errors.UnknownAnswer)
    return age_seconds > (timers.outage_seconds if away else timers.run_age_seconds)


def decide(
    error: BaseException,
    *,
    rules: RetryRules,
    failures: int,
    step_failures: int,
    retrying: bool,
    max_attempts: int,
    timers: Timers,
    now_epoch: float,
    age_seconds: float = 0.0,
    answered_seconds_ago: float = math.inf,
) -> Verdict:
    """Return what to do after ``error`` in a run that failed ``failures`` times before, ``step_failures`` of them here.

    ``rules``: those of the step over those of its pipeline, already scaled; ``max_attempts`` where they name none.
    ``age_seconds``: of the run; ``answered_seconds_ago``: since the portal answered for any object. Both matter only
    where the portal may have refused this one object: an answer since about the last attempt tells that it did, and a
    run that is too old fails (`refused_too_long`), so that its batch does not keep polls out for ever.

    A retrying run (of a record that was nacked before) is never given up here: it may not be nacked twice. Its waits
    are those of the error lane.
    """
    reason = type(error).__name__
    passing = uncounted_wait_seconds(error, timers, now_epoch)
    usual = timers.step_backoff_seconds
    refused = may_concern_object(error)
    if passing is not None and not (refused and answered_seconds_ago < passing):
        if refused and not retrying and refused_too_long(error, age_seconds, timers):
            return Fail(reason, backoff_seconds=usual[-1])
        return RetryIn(passing, counted=False, restart=passing > LONGEST_REPEAT_SECONDS, reason=reason)
    final = passing is None and isinstance(error, (*_FINAL, *(rules.final or ())))
    if retrying:
        waits = timers.redrive_backoff_seconds
        wait = waits[min(failures, len(waits) - 1)]
        return Exhaust(reason) if final else RetryIn(wait, counted=True, restart=True, reason=reason)
    waits = rules.backoff_seconds or usual
    wait = waits[min(step_failures, len(waits) - 1)]
    if final or step_failures + 1 >= (rules.attempts or max_attempts):
        # The next change of the object is another event; an author's long waits are not meant for it.
        return Fail(reason, backoff_seconds=min(wait, usual[-1]))
    return RetryIn(wait, counted=True, restart=wait > LONGEST_REPEAT_SECONDS, reason=reason)


def uncounted_wait_seconds(error: BaseException, timers: Timers, now_epoch: float) -> float | None:
    """Return the wait after an error that is not counted while the portal answers for nobody; None for all others."""
    soon, late = timers.step_backoff_seconds[2], timers.redrive_backoff_seconds[0]
    if isinstance(error, errors.RateLimited):
        return error.wait_seconds
    if isinstance(error, errors.OperationTimeLimit):
        reply = error.reset_at - now_epoch if error.reset_at else late
        return min(max(reply, timers.step_backoff_seconds[0]), timers.redrive_backoff_seconds[1])
    if isinstance(error, PASSING_SOON):
        return soon
    return late if isinstance(error, PASSING_LATE) else None
