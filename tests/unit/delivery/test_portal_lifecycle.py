"""What an error of the portal says about its state."""

from __future__ import annotations

import inspect

import pytest

from b24offline import errors
from b24offline.delivery.portal_lifecycle import PortalBackOff, back_off_after
from b24offline.events import ObservedState
from b24offline.rest import PortalBlocked

NOW = 1_775_000_000.0


def of(kind: type[errors.PortalError]) -> PortalBackOff:
    return back_off_after(kind("acme", "event.offline.get", 403, "", ""), now_epoch=NOW)


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (errors.AuthLost, ObservedState.AUTH_LOST),
        (errors.ClientRejected, ObservedState.PAUSED),
        (errors.EndpointRefused, ObservedState.PAUSED),
        (errors.PaymentRequired, ObservedState.PAUSED),
        (errors.PlanTooSmall, ObservedState.PLAN_TOO_SMALL),
        (errors.WrongAuthType, ObservedState.NOT_ADMIN),
        (errors.InsufficientScope, ObservedState.NOT_ADMIN),
        (errors.AccessDenied, ObservedState.NOT_ADMIN),
        (errors.NotAdministrator, ObservedState.NOT_ADMIN),
        (errors.Overloaded, ObservedState.BLOCKED),
        (errors.PortalGone, ObservedState.REMOVED),
        (errors.Unreachable, ObservedState.PAUSED),
        (errors.UnknownAnswer, ObservedState.PAUSED),
        (errors.ServerError, ObservedState.PAUSED),
        (errors.QueryLimitExceeded, ObservedState.PAUSED),
        (errors.OperationTimeLimit, ObservedState.PAUSED),
        (errors.AuthServerError, ObservedState.PAUSED),
        (errors.AuthServerUnavailable, ObservedState.PAUSED),
        (errors.Moved, ObservedState.PAUSED),
    ],
)
def test_each_state(kind: type[errors.PortalError], state: ObservedState) -> None:
    assert of(kind).state is state


def test_what_a_person_must_end_waits_longer_than_what_passes() -> None:
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.PortalError):
            back_off = of(kind)
            refused = {errors.AuthHostRefused, errors.EndpointRefused}
            by_a_person = kind in {errors.ClientRejected, errors.PaymentRequired, *refused}
            passing = back_off.state is ObservedState.PAUSED and not by_a_person
            assert (back_off.wait_seconds < 60) == passing
            assert back_off.wait_seconds > 0


def test_a_call_that_was_retrying_back_by_a_block_tells_of_it() -> None:
    error = PortalBlocked("acme", 3000.0)
    assert back_off_after(error, now_epoch=NOW) == PortalBackOff(ObservedState.BLOCKED, 3000.0)
    assert error.actor == errors.Overloaded.actor
    assert errors.Overloaded.advice in str(error)


def test_the_pace_is_no_state() -> None:
    assert back_off_after(errors.RateLimited("acme", 7.5), now_epoch=NOW) == PortalBackOff(ObservedState.ACTIVE, 7.5)


def test_a_database_of_ours_that_is_away_is_no_state_of_the_portal() -> None:
    back_off = back_off_after(errors.StoreUnavailable("away"), now_epoch=NOW)
    assert (back_off.state, back_off.wait_seconds < 60) == (ObservedState.ACTIVE, True)


@pytest.mark.parametrize(
    ("reset_at", "wait"), [(NOW + 30, 30.0), (NOW - 30, 1.0), (NOW + 100_000, 600.0), (None, 15.0), (0.0, 15.0)]
)
def test_a_spent_method_pauses_until_it_eases(reset_at: float | None, wait: float) -> None:
    error = errors.OperationTimeLimit("acme", "event.offline.get", 429, "", "")
    error.reset_at = reset_at
    assert back_off_after(error, now_epoch=NOW) == PortalBackOff(ObservedState.PAUSED, wait)


def test_the_scale_shortens_waits() -> None:
    error = errors.AuthLost("acme", "event.offline.get", 401, "", "")
    assert back_off_after(error, now_epoch=NOW, time_scale=0.01).wait_seconds == pytest.approx(3.0)
