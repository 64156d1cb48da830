"""Without signals a change waits for the next poll: half the interval on average, and little more."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

from redis import Redis

from tests.support import push_chains
from tests.support.stack import Stack
from tests.support.waiting import wait_until

CHANGES = 12
INTERVAL_SECONDS = 4.0
MORE_SECONDS = 0.3
BUSY_SECONDS = 0.5
"""What a busy machine may add to the median here; docs/capacity.md has the figure of a quiet one."""


def test_a_change_of_an_idle_portal_waits_half_the_interval_at_the_median(
    start_stack: Callable[..., Stack], redis: Redis
) -> None:
    variables = {
        "B24_PIPELINES": "tests.support.push_chains",
        "B24_POLL_INTERVAL_MIN_SECONDS": str(INTERVAL_SECONDS),
        "B24_POLL_INTERVAL_MAX_SECONDS": str(INTERVAL_SECONDS),
    }
    stack = start_stack(time_scale=1.0, variables=variables)
    phases = random.Random(1)
    waited = []
    for number in range(CHANGES):
        # Spread over the interval, whenever the poll before was.
        time.sleep((number + phases.random()) / CHANGES * INTERVAL_SECONDS)
        changed = time.time()
        (deal,) = stack.control.change("crm_deal", "add")
        waited.append(
            float(wait_until(lambda deal=deal: redis.hget(push_chains.BEGUN, f"crm_deal {deal}"), "its step began"))
            - changed
        )
    print("first step after", sorted(round(each, 2) for each in waited))
    assert statistics.median(waited) <= INTERVAL_SECONDS / 2 + MORE_SECONDS + BUSY_SECONDS
    assert max(waited) <= INTERVAL_SECONDS + MORE_SECONDS + BUSY_SECONDS
