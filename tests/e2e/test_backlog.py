"""A backlog is worked off without a pause, though few batches may be open at a time."""

from __future__ import annotations

from collections.abc import Callable

from b24offline import keys
from tests.support.stack import Stack
from tests.support.waiting import wait_until

INTERVAL_SECONDS = "60"
"""Between polls while records keep coming: the twelve batches took six of them, were room only found by the clock."""


def test_a_full_lane_is_polled_as_soon_as_there_is_room(start_stack: Callable[..., Stack]) -> None:
    stack = start_stack(
        objects=120,
        time_scale=1.0,
        variables={
            "B24_BATCH_SIZE": "10",
            "B24_MAX_IN_FLIGHT_BATCHES": "2",
            "B24_POLL_INTERVAL_MIN_SECONDS": INTERVAL_SECONDS,
            "B24_POLL_INTERVAL_MAX_SECONDS": INTERVAL_SECONDS,
        },
    )
    stack.control.backlog(120, entities=["crm_deal"])
    services = stack.services
    services.redis.delete(keys.lanes(services.ledger.stem))  # a lane that was never polled is due now
    services.schedule.hasten(services.name, 0)
    done = "all is acknowledged within one interval"
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) >= 120 and stack.settled(), done, 50)
    assert stack.compare().equal
