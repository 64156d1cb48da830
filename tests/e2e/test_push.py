"""Signals of a portal: the first step begins within a second of the change, and nothing depends on them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support import push_chains
from tests.support.push_process import PushProcess
from tests.support.stack import Stack
from tests.support.waiting import wait_until

CHANGES = 9
WITHIN_SECONDS = 1.0
PAUSE_SECONDS = 1.5
"""Longer than minTimeout and than the least interval of polls: each change has a signal and a poll of its own."""
MINUTES = {
    "B24_PIPELINES": "tests.support.push_chains",
    "B24_POLL_INTERVAL_MAX_SECONDS": "240",
    "B24_PUSH_IDLE_SECONDS": "600",
}


@pytest.fixture
def push(tmp_path: Path) -> Iterator[PushProcess]:
    process = PushProcess(tmp_path)
    yield process
    process.kill()
    print(process.log[-4000:])


def begun(redis: Redis, deal: str) -> float | None:
    """Return when the first step for a deal began."""
    value = redis.hget(push_chains.BEGUN, f"crm_deal {deal}")
    return float(value) if value else None


def test_a_step_begins_within_a_second_of_the_change(
    start_stack: Callable[..., Stack], redis: Redis, push: PushProcess
) -> None:
    stack = start_stack(variables={**MINUTES, **push.variables})
    push.start(stack.variables)
    wait_until(lambda: len(stack.control.state()["bindings"]) == 4, "events and signals are bound")
    (first,) = stack.control.change("crm_deal", "add")  # its signal lets the portal prove itself
    wait_until(lambda: begun(redis, first) and "application token noted" in push.log, "the first one is handled")
    stack.beat.kill()  # nobody asks for polls any more: whatever comes from now on, a signal has brought
    waited = []
    for _ in range(CHANGES):
        time.sleep(PAUSE_SECONDS)
        changed = time.time()
        (deal,) = stack.control.change("crm_deal", "add")
        wait_until(lambda deal=deal: begun(redis, deal), f"deal {deal} is handled", pause_seconds=0.01)
        waited.append(begun(redis, deal) - changed)
    print("first step after", [round(each, 3) for each in waited])
    assert statistics.median(waited) < WITHIN_SECONDS
    assert stack.control.state()["push"]["answers"].keys() <= {"200", "403"}
