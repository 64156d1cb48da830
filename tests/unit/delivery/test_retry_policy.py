"""What follows an error of a step."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import IntegrityError

from b24offline import errors
from b24offline.delivery import NotReadable, Permanent
from b24offline.delivery.retry_policy import LONGEST_REPEAT_SECONDS, Exhaust, Fail, RetryIn, decide
from b24offline.events import RetryRules
from b24offline.events.retry import UNCOUNTED
from tests.support.core_events import TIMERS

NOW = 1_775_000_000.0
SOON, LATE = TIMERS.step_backoff_seconds, TIMERS.redrive_backoff_seconds


def verdict(
    error: BaseException,
    *,
    failures: int = 0,
    retrying: bool = False,
    max_attempts: int = 5,
    rules: RetryRules = RetryRules(),  # noqa: B008 - it is frozen
    before: int = 0,
    **about_the_portal: float,
) -> RetryIn | Fail | Exhaust:
    """``before``: failures of earlier steps of the run."""
    return decide(
        error,
        rules=rules,
        failures=before + failures,
        step_failures=failures,
        retrying=retrying,
        max_attempts=max_attempts,
        timers=TIMERS,
        now_epoch=NOW,
        **about_the_portal,
    )


def portal_error(kind: type[errors.PortalError]) -> errors.PortalError:
    return kind("acme", "crm.deal.get", 503, "", "")


EVERY_PORTAL_ERROR = [
    kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.PortalError)
]
OF_THE_PORTAL = [
    errors.Unreachable,
    errors.UnknownAnswer,
    errors.AnswerTooLarge,
    errors.ServerError,
    errors.Moved,
    errors.QueryLimitExceeded,
    errors.OperationTimeLimit,
    errors.Overloaded,
    errors.ExpiredToken,
    errors.AuthLost,
    errors.AccessDenied,
    errors.NotAdministrator,
    errors.PlanTooSmall,
    errors.WrongAuthType,
    errors.InsufficientScope,
    errors.PortalGone,
    errors.AuthServerError,
    errors.AuthServerUnavailable,
    errors.ClientRejected,
    errors.PaymentRequired,
    errors.AuthHostRefused,
    errors.EndpointRefused,
    errors.CodeRefused,
]
OF_OUR_STORES = [
    errors.StoreUnavailable("down"),
    errors.MemberMismatch("another"),
    errors.EndpointMismatch("x"),
    RedisConnectionError("down"),
]


@pytest.mark.parametrize("retrying", [True, False])
@pytest.mark.parametrize("error", [*(portal_error(kind) for kind in OF_THE_PORTAL), *OF_OUR_STORES], ids=repr)
def test_trouble_of_the_portal_and_of_our_stores_is_nobodys_attempt(error: Exception, retrying: bool) -> None:
    reply = verdict(error, failures=99, retrying=retrying)
    assert isinstance(reply, RetryIn)
    assert not reply.counted
    assert reply.wait_seconds > 0
    assert reply.reason == type(error).__name__


OWN = RetryRules(attempts=3, backoff_seconds=(1.0, 90.0), final=(LookupError,))
FINAL = [
    Permanent("x"),
    NotReadable("x"),
    errors.ConfigError("x"),
    *(portal_error(kind) for kind in (errors.BadRequest, errors.BatchRefused, errors.MethodNotFound)),
    *(TypeError("x"), AttributeError("x"), UnboundLocalError("x"), ModuleNotFoundError("x"), NotImplementedError("x")),
]


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_would_come_again_for_certain_is_final(error: Exception) -> None:
    assert verdict(error) == Fail(type(error).__name__, SOON[0])
    assert verdict(error, rules=RetryRules(final=())) == Fail(type(error).__name__, SOON[0])


@pytest.mark.parametrize("error", [*FINAL, KeyError("x")], ids=repr)
def test_in_a_record_that_was_reported_before_it_waits_for_a_person_at_once(error: Exception) -> None:
    assert verdict(error, retrying=True, rules=OWN) == Exhaust(type(error).__name__)


@pytest.mark.parametrize("error", [RuntimeError("x"), RecursionError("x"), ValueError("x"), OSError("x")], ids=repr)
def test_what_may_pass_is_not_final_by_itself(error: Exception) -> None:
    assert isinstance(verdict(error), RetryIn)
    assert isinstance(verdict(error, retrying=True), RetryIn)


def test_a_step_or_pipeline_may_ask_for_its_own_attempts_and_waits() -> None:
    assert verdict(ValueError(), rules=OWN) == RetryIn(1.0, counted=True, restart=False, reason="ValueError")
    assert verdict(ValueError(), rules=OWN, failures=1) == RetryIn(
        90.0, counted=True, restart=True, reason="ValueError"
    )
    assert isinstance(verdict(ValueError(), rules=OWN, failures=2), Fail)
    many = RetryRules(attempts=12)
    assert verdict(ValueError(), rules=many, failures=10) == RetryIn(
        SOON[-1], counted=True, restart=SOON[-1] > LONGEST_REPEAT_SECONDS, reason="ValueError"
    )
    assert isinstance(verdict(ValueError(), rules=many, failures=11), Fail)


def test_failures_of_earlier_steps_take_no_attempt_from_this_one() -> None:
    assert verdict(ValueError(), rules=OWN, before=7) == RetryIn(1.0, counted=True, restart=False, reason="ValueError")


def test_its_own_final_errors_fail_at_once() -> None:
    assert verdict(KeyError(), rules=OWN) == Fail("KeyError", 1.0)
    assert verdict(ValueError(), rules=RetryRules(final=(Exception,))) == Fail("ValueError", SOON[0])


def test_the_next_event_of_the_object_does_not_wait_out_an_authors_long_backoff() -> None:
    slow = RetryRules(attempts=1, backoff_seconds=(3600.0,))
    assert verdict(ValueError(), rules=slow) == Fail("ValueError", SOON[-1])


@given(
    rules=st.builds(
        RetryRules,
        st.none() | st.integers(1, 20),
        st.none() | st.lists(st.floats(0.001, 3600), min_size=1).map(tuple),
        st.sampled_from([None, (), (Exception,), (errors.PortalError, errors.B24OfflineError)]),
    ),
    error=st.sampled_from([*(portal_error(kind) for kind in OF_THE_PORTAL), *OF_OUR_STORES])
    | st.builds(errors.RateLimited, st.just("acme"), st.floats(0.001, 10_000)),
    failures=st.integers(0, 50),
    retrying=st.booleans(),
)
def test_what_is_nobodys_attempt_is_out_of_reach_of_all_rules(
    rules: RetryRules, error: Exception, failures: int, retrying: bool
) -> None:
    assert isinstance(error, UNCOUNTED)
    assert verdict(error, rules=rules, failures=failures, retrying=retrying) == verdict(error)


@pytest.mark.parametrize(
    "error", [ValueError("customer data"), portal_error(errors.RefusedByMethod), IntegrityError("x", None, Exception())]
)
def test_everything_else_is_counted_until_the_attempts_are_spent(error: Exception) -> None:
    waits = []
    for failures in range(4):
        reply = verdict(error, failures=failures)
        assert isinstance(reply, RetryIn)
        assert reply.counted
        waits.append(reply.wait_seconds)
    assert tuple(waits) == SOON
    assert verdict(error, failures=4) == Fail(type(error).__name__, SOON[-1])
    assert isinstance(verdict(error, max_attempts=1), Fail)


@given(
    failures=st.integers(0, 50),
    error=st.sampled_from([Permanent("x"), ValueError("x"), *(portal_error(kind) for kind in EVERY_PORTAL_ERROR)]),
)
def test_a_retrying_run_is_never_given_up(failures: int, error: Exception) -> None:
    assert isinstance(verdict(error, failures=failures, retrying=True), RetryIn | Exhaust)


def test_a_retrying_run_backs_off_from_its_first_step() -> None:
    reply = [verdict(ValueError(), failures=failures, retrying=True) for failures in range(8)]
    assert reply[0] == RetryIn(LATE[0], counted=True, restart=True, reason="ValueError")
    assert [one.wait_seconds for one in reply if isinstance(one, RetryIn)] == [*LATE, LATE[-1], LATE[-1]]


@given(
    failures=st.integers(0, 3),
    retrying=st.booleans(),
    error=st.sampled_from([ValueError("x"), *(portal_error(kind) for kind in EVERY_PORTAL_ERROR)])
    | st.builds(errors.RateLimited, st.just("acme"), st.floats(0.001, 10_000)),
)
def test_only_short_waits_go_by_message(failures: int, retrying: bool, error: Exception) -> None:
    reply = verdict(error, failures=failures, retrying=retrying)
    if isinstance(reply, RetryIn) and not reply.restart:
        assert reply.wait_seconds <= LONGEST_REPEAT_SECONDS


MAY_CONCERN_OBJECT = [
    *(errors.UnknownAnswer, errors.AnswerTooLarge, errors.ServerError, errors.AccessDenied, errors.InsufficientScope),
]


@pytest.mark.parametrize("kind", MAY_CONCERN_OBJECT)
def test_what_is_refused_for_one_object_is_an_error_of_its_step(kind: type[errors.PortalError]) -> None:
    error = portal_error(kind)
    uncounted = verdict(error, answered_seconds_ago=1e9)
    assert isinstance(uncounted, RetryIn)
    assert not uncounted.counted
    for failures in range(4):
        reply = verdict(error, failures=failures, answered_seconds_ago=1.0)
        assert reply == RetryIn(SOON[failures], counted=True, restart=False, reason=kind.__name__)
    assert isinstance(verdict(error, failures=4, answered_seconds_ago=1.0), Fail)
    assert verdict(error, failures=1, retrying=True, answered_seconds_ago=1.0) == RetryIn(
        LATE[1], counted=True, restart=True, reason=kind.__name__
    )


@pytest.mark.parametrize("kind", sorted(set(OF_THE_PORTAL) - set(MAY_CONCERN_OBJECT), key=repr))
def test_what_concerns_the_whole_portal_is_never_counted(kind: type[errors.PortalError]) -> None:
    error, old = portal_error(kind), TIMERS.outage_seconds * 2
    assert verdict(error, failures=9, answered_seconds_ago=0.0, age_seconds=old) == verdict(error)


@pytest.mark.parametrize("kind", MAY_CONCERN_OBJECT)
def test_a_run_that_is_refused_for_long_fails_by_its_age(kind: type[errors.PortalError]) -> None:
    away = issubclass(kind, errors.UnknownAnswer)
    error, age = portal_error(kind), TIMERS.outage_seconds if away else TIMERS.run_age_seconds
    assert verdict(error, age_seconds=age) == verdict(error)
    assert verdict(error, age_seconds=age + 1) == Fail(kind.__name__, SOON[-1])
    assert verdict(error, age_seconds=age + 1, retrying=True) == verdict(error, retrying=True)


def test_the_pace_says_itself_how_long() -> None:
    assert verdict(errors.RateLimited("acme", 12.0)) == RetryIn(
        12.0, counted=False, restart=False, reason="RateLimited"
    )
    assert verdict(errors.RateLimited("acme", 90.0)) == RetryIn(90.0, counted=False, restart=True, reason="RateLimited")


@pytest.mark.parametrize(
    ("reset_at", "wait"),
    [(NOW + 40, 40), (NOW - 40, SOON[0]), (NOW + 1_000_000, LATE[1]), (None, LATE[0])],
)
def test_a_spent_method_waits_until_it_eases(reset_at: float | None, wait: float) -> None:
    error = errors.OperationTimeLimit("acme", "crm.deal.get", 429, "", "")
    error.reset_at = reset_at
    reply = verdict(error)
    assert isinstance(reply, RetryIn)
    assert reply.wait_seconds == wait
    assert not reply.counted


def test_the_table_knows_every_error_of_the_portal() -> None:
    about_the_event = {
        *(errors.PortalError, errors.BadRequest, errors.BatchRefused, errors.MethodNotFound),
        *(errors.ObjectNotFound, errors.RefusedByMethod),
    }
    assert set(EVERY_PORTAL_ERROR) == set(OF_THE_PORTAL) | about_the_event
