"""How fast nacked records are taken up again: within a share of the pace, and listed no more than that is worth."""

from __future__ import annotations

import pytest

from b24offline.delivery.redriver import AT_ONCE, LISTED_FREELY, REQUESTS_EACH, SHARE, listing_seconds, turn_seconds

FIRST_WAIT = 300.0


@pytest.mark.parametrize("rate_limiter", [2.0, 5.0, 100.0])
def test_a_turn_takes_no_more_than_its_share_of_the_pace(rate_limiter: float) -> None:
    seconds = turn_seconds(FIRST_WAIT, rate_limiter)
    assert AT_ONCE * REQUESTS_EACH / seconds == pytest.approx(rate_limiter * SHARE)


def test_a_portal_that_is_called_slowly_is_still_looked_at_within_a_third_of_the_first_wait() -> None:
    assert turn_seconds(FIRST_WAIT, 0.1) == FIRST_WAIT / 3


@pytest.mark.parametrize("known", [0, 1, LISTED_FREELY])
def test_few_are_listed_in_full_every_third_of_the_first_wait(known: int) -> None:
    assert listing_seconds(FIRST_WAIT, known) == FIRST_WAIT / 3


@pytest.mark.parametrize("known", [5_000, 50_000])
def test_listing_thousands_costs_the_same_requests_a_second_as_listing_hundreds(known: int) -> None:
    assert known / listing_seconds(FIRST_WAIT, known) == pytest.approx(LISTED_FREELY / (FIRST_WAIT / 3))
