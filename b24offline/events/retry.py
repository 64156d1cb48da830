"""What a pipeline or a step asks of its retries: attempts, waits, and which errors are final. Pure.

Checked at import, so that a worker does not start with meaningless rules. They do not apply to errors that do not
count as an attempt: a limit of the portal is not a failure of the step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from b24offline import errors
from b24offline.errors import ConfigError

MOST_ATTEMPTS: Final = 20
LONGEST_WAIT_SECONDS: Final = 3600.0
"""A waiting run keeps its batch open and its object queue occupied; longer waits belong to the error lane."""


PASSING_SOON: Final = (
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
"""Errors that pass within seconds."""
PASSING_LATE: Final = (
    errors.AuthLost,
    errors.AccessDenied,
    errors.PlanTooSmall,
    errors.Overloaded,
    errors.PortalGone,
    errors.WrongAuthType,
    errors.InsufficientScope,
    errors.AuthServerError,
    errors.MemberMismatch,
    errors.EndpointMismatch,
    errors.EndpointRefused,
    errors.LedgerClockBehind,
)
"""Errors that last for minutes, or until a person acts."""
UNCOUNTED: Final = (errors.RateLimited, errors.OperationTimeLimit, *PASSING_SOON, *PASSING_LATE)
"""Errors that never count as an attempt, whatever a pipeline or a step asks for."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Rules of a step or of a pipeline; None leaves a rule to the level below. Made by `RetryRules.checked`.

    Attributes:
        attempts: failed attempts of a step after which its run has failed.
        backoff_seconds: waits before the retries; the last one is used for all further retries.
        final: errors that fail the run at once, in addition to those that always do.
    """

    attempts: int | None = None
    backoff_seconds: tuple[float, ...] | None = None
    final: tuple[type[Exception], ...] | None = None

    @classmethod
    def checked(
        cls,
        owner: str,
        *,
        attempts: int | None = None,
        backoff: float | Iterable[float] | None = None,
        final: type[Exception] | Iterable[type[Exception]] | None = None,
    ) -> Self:
        """Return the rules as their author wrote them; ``owner`` ("step 'bill'") begins the message of an error.

        Raise `ConfigError` for anything that is out of range or could never apply.
        """
        if attempts is not None and not (_whole(attempts) and 1 <= attempts <= MOST_ATTEMPTS):
            raise ConfigError(f"{owner}: attempts must be a whole number from 1 to {MOST_ATTEMPTS}, not {attempts!r}")
        return cls(
            attempts,
            None if backoff is None else _waits(owner, backoff),
            None if final is None else _errors(owner, final),
        )

    def over(self, below: RetryRules) -> RetryRules:
        """Return these rules, completed by those of ``below``."""
        return RetryRules(
            below.attempts if self.attempts is None else self.attempts,
            below.backoff_seconds if self.backoff_seconds is None else self.backoff_seconds,
            below.final if self.final is None else self.final,
        )

    def scaled(self, scale: float) -> RetryRules:
        """Return the rules with their waits scaled like all timers."""
        if self.backoff_seconds is None:
            return self
        return RetryRules(self.attempts, tuple(wait * scale for wait in self.backoff_seconds), self.final)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _waits(owner: str, backoff: float | Iterable[float]) -> tuple[float, ...]:
    given = tuple(backoff) if isinstance(backoff, Iterable) else (backoff,)
    usable = [
        wait
        for wait in given
        if isinstance(wait, int | float) and not isinstance(wait, bool) and math.isfinite(wait)
        if 0 < wait <= LONGEST_WAIT_SECONDS
    ]
    if not given or len(usable) != len(given):
        raise ConfigError(
            f"{owner}: backoff must be one or more waits in seconds, above 0 and at most {LONGEST_WAIT_SECONDS:.0f}, "
            f"not {backoff!r}; longer waits belong to the error lane"
        )
    return tuple(float(wait) for wait in usable)


def _errors(owner: str, final: type[Exception] | Iterable[type[Exception]]) -> tuple[type[Exception], ...]:
    given = tuple(final) if isinstance(final, Iterable) else (final,)
    for kind in given:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise ConfigError(f"{owner}: final must be classes of exceptions, not {kind!r}")
        if issubclass(kind, UNCOUNTED):
            raise ConfigError(
                f"{owner}: {kind.__name__} does not count as an attempt and cannot be final; where it is "
                "the event's own fault, catch it and raise Permanent"
            )
    return given
