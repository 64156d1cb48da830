"""Steps of another stack, which shares the broker with us and nothing else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from redis import Redis

from b24offline.supervisor import CeleryProcess, EmbeddedValkey
from tests.support.stack import CHAINS, Stack
from tests.support.waiting import wait_until


def shop(broker_url: str, redis_url: str, folder: Path) -> CeleryProcess:
    """Start a worker of the other stack."""
    process = CeleryProcess(
        "shop",
        ["worker", "-n", "shop@%h", "-c", "2", "-l", "INFO"],
        environ={**os.environ, "SHOP_BROKER_URL": broker_url, "SHOP_REDIS_URL": redis_url},
        log_path=folder / "shop.log",
        application="tests.support.foreign_stack",
    )
    process.start()
    return process


def test_another_stack_takes_part_in_a_chain(
    start_stack: Callable[..., Stack], broker_url: str, valkey: EmbeddedValkey, redis: Redis, tmp_path: Path
) -> None:
    variables = {"B24_PIPELINES": CHAINS, "B24_EXTERNAL_QUEUES": "shop"}
    stack = start_stack(broker_url, variables=variables, all_queues=True)
    contacts = stack.control.change("crm_contact", "update", count=3)
    wait_until(lambda: stack.counters.get("batches_polled", 0) >= 1, "the events are reserved")
    stack.control.change("crm_deal", "update", count=2)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 2, "ours are settled")
    assert "unregistered" not in stack.workers[0].log_tail(100_000), "our worker read the queue of the other stack"

    redis.sadd("shop:refuse", contacts[0])
    other = shop(broker_url, valkey.url, tmp_path)
    try:
        tasks = stack.control.change("task", "update", count=3)
        wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 7, "outcomes arrive from the other stack")
        # At least once: on a machine that stands still for seconds, a run that waits in a queue is handed out again.
        announced = Counter(redis.lrange("shop:announced", 0, -1))
        assert announced >= Counter([*contacts[1:], *tasks])
        wait_until(lambda: stack.counters.get("events_nacked", 0) == 1, "what the other stack refused is nacked")
        assert stack.history("nacked")[0]["object"] == contacts[0]
    finally:
        other.stop()
        print(other.log_tail())
