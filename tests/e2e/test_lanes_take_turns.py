"""Lanes of a portal: a flood in one starves no other, neither at polling nor at handling."""

from __future__ import annotations

import json
from collections.abc import Callable

from redis import Redis

from b24offline.supervisor import child_environ, worker
from tests.support import chains
from tests.support.stack import CHAINS, Stack
from tests.support.waiting import wait_until

LANES = [
    {
        "name": "deals",
        "filter": {"=EVENT_NAME": "ONCRMDEALUPDATE"},
        "batch_size": 200,
        "queue": "b24offline.deals",
        "priority": 5,
    },
    {"name": "leads", "filter": {"=EVENT_NAME": "ONCRMLEADUPDATE"}, "interval_max_seconds": 1},
]

SLOW_SECONDS = 1.0
"""For each of 450 deals in sequence: longer than any wait here."""


def test_a_flood_of_deals_does_not_delay_leads(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(
        objects=3000,
        variables={
            "B24_PIPELINES": CHAINS,
            "B24_LANES": json.dumps(LANES),
            # The default lane takes neither of the two events.
            "B24_FILTER": json.dumps({"=EVENT_NAME": "ONTASKADD"}),
            "B24_MAX_IN_FLIGHT_BATCHES": "2",
        },
    )
    deals = worker(
        "deals",
        environ=child_environ(stack.variables),
        folder=stack.folder,
        concurrency=1,
        queues=["b24offline.deals"],
    ).start()
    try:
        redis.hset(chains.MODE, "*", "slow")
        redis.set("test:slow_seconds", SLOW_SECONDS)
        stack.control.change("crm_deal", "update", count=450)
        wait_until(lambda: len(stack.services.ledger.open_batches()) == 2, "the lane of deals is full")
        stack.control.change("crm_lead", "update", count=5)
        wait_until(lambda: redis.hlen("test:counted") == 5, "the leads are handled while deals wait")
        left = stack.control.state()["records"]
        assert left > 150, "the flood was over before the leads were handled: this test shows nothing"
    finally:
        deals.kill()
    sizes = [len(stack.services.ledger.events(pid)) for pid in stack.services.ledger.open_batches()]
    assert max(sizes) > 50, "the limit of the lane was used"
