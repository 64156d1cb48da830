"""What pipelines and steps may ask of their retries, and what is refused when they are imported."""

from __future__ import annotations

import math

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from b24offline import errors
from b24offline.errors import ConfigError
from b24offline.events import RetryRules


def test_rules_are_read_as_they_are_written() -> None:
    assert RetryRules.checked("x") == RetryRules()
    assert RetryRules.checked("x", attempts=5, backoff=[1, 5, 30], final=(ValueError,)) == RetryRules(
        5, (1.0, 5.0, 30.0), (ValueError,)
    )
    assert RetryRules.checked("x", backoff=2, final=KeyError) == RetryRules(None, (2.0,), (KeyError,))
    assert RetryRules.checked("x", final=()).final == ()


@pytest.mark.parametrize("attempts", [0, -1, 21, 1.0, True, "3", (3,)])
def test_attempts_are_a_small_whole_number(attempts: object) -> None:
    with pytest.raises(ConfigError, match=r"step 'bill': attempts must be a whole number from 1 to 20"):
        RetryRules.checked("step 'bill'", attempts=attempts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "backoff", [(), 0, -1, (1, 0), 3601, math.inf, math.nan, ("1",), "15", object(), True, (1, None)]
)
def test_waits_are_seconds_above_zero_and_at_most_an_hour(backoff: object) -> None:
    with pytest.raises(ConfigError, match=r"pipeline 'x': backoff must be one or more waits in seconds"):
        RetryRules.checked("pipeline 'x'", backoff=backoff)  # type: ignore[arg-type]


@pytest.mark.parametrize("final", [ValueError("x"), "ValueError", (ValueError, 3), KeyboardInterrupt, int])
def test_final_are_classes_of_exceptions(final: object) -> None:
    with pytest.raises(ConfigError, match=r"final must be classes of exceptions"):
        RetryRules.checked("step 'bill'", final=final)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "final",
    [
        errors.RateLimited,
        errors.OperationTimeLimit,
        errors.QueryLimitExceeded,
        errors.ServerError,
        errors.NotAdministrator,
        errors.StoreUnavailable,
        RedisConnectionError,
    ],
)
def test_an_error_that_does_not_count_cannot_be_final(final: type[Exception]) -> None:
    with pytest.raises(ConfigError, match=rf"{final.__name__} does not count as an attempt"):
        RetryRules.checked("step 'bill'", final=(ValueError, final))


def test_a_step_goes_before_its_pipeline_rule_by_rule() -> None:
    pipeline = RetryRules(9, (1.0,), (KeyError,))
    assert RetryRules().over(pipeline) == pipeline
    assert RetryRules(attempts=2).over(pipeline) == RetryRules(2, (1.0,), (KeyError,))
    assert RetryRules(final=()).over(pipeline) == RetryRules(9, (1.0,), ())
    assert RetryRules(backoff_seconds=(7.0,)).over(RetryRules()) == RetryRules(None, (7.0,), None)


def test_waits_are_scaled_like_all_timers() -> None:
    assert RetryRules(3, (10.0, 20.0), (KeyError,)).scaled(0.5) == RetryRules(3, (5.0, 10.0), (KeyError,))
    assert RetryRules(3).scaled(0.5) == RetryRules(3)
