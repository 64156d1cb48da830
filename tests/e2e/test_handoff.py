"""Steps of another stack, which shares the broker with us and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from b24offline.supervisor import EmbeddedValkey
from demo.processes import CeleryProcess
from tests.support.stack import CHAINS, Stack
from tests.support.waiting import wait_until

VARIABLES = {"B24_PIPELINES": CHAINS, "B24_EXTERNAL_QUEUES": "shop"}


@pytest.fixture
def shop(broker_url: str, valkey: EmbeddedValkey, redis: Redis, tmp_path: Path) -> Iterator[CeleryProcess]:
    """A worker of the other stack."""
    environ = {**os.environ, "SHOP_BROKER_URL": broker_url, "SHOP_REDIS_URL": valkey.url}
    process = CeleryProcess(
        "shop",
        ["worker", "-n", "shop@%h", "-c", "2", "-l", "INFO"],
        environ=environ,
        log_path=tmp_path / "shop.log",
        application="tests.support.foreign_stack",
    )
    process.start()
    yield process
    process.stop()
    print(process.log_tail(), file=sys.stderr)


def test_another_stack_takes_part_in_a_chain(
    start_stack: Callable[..., Stack], broker_url: str, shop: CeleryProcess, redis: Redis
) -> None:
    stack = start_stack(broker_url, variables=VARIABLES)
    contacts = stack.control.change("crm_contact", "update", count=3)
    tasks = stack.control.change("task", "update", count=3)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 6, "outcomes arrive from the other stack")
    assert sorted(redis.lrange("shop:announced", 0, -1)) == sorted([*contacts, *tasks])
    assert stack.counters["runs_succeeded"] == 6


def test_a_failure_in_another_stack_is_nacked(
    start_stack: Callable[..., Stack], broker_url: str, shop: CeleryProcess, redis: Redis
) -> None:
    stack = start_stack(broker_url, variables=VARIABLES)
    contacts = [contact["id"] for contact in stack.control.objects("crm_contact")][:3]
    redis.sadd("shop:refuse", contacts[0])
    stack.control.change("crm_contact", "update", ids=contacts)
    wait_until(lambda: stack.counters.get("events_nacked", 0) == 1, "the failed event is nacked")
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 2, "the others are acknowledged")
    assert stack.history("nacked")[0]["object"] == contacts[0]


def test_our_workers_never_read_the_queue_of_another_stack(
    start_stack: Callable[..., Stack], broker_url: str, redis: Redis
) -> None:
    stack = start_stack(broker_url, variables=VARIABLES, all_queues=True)
    stack.control.change("crm_contact", "update", count=2)
    wait_until(lambda: stack.counters.get("batches_polled", 0) >= 1, "the events are reserved")
    stack.control.change("crm_deal", "update", count=2)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 2, "ours are settled")
    assert "shop.announce" not in stack.workers[0].log_tail(100_000).replace("unregistered", "")
    assert "unregistered" not in stack.workers[0].log_tail(100_000)
