"""The whole path on both brokers: a portal's queue, beat, workers, the mirror, and a settled batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from tests.support import chains
from tests.support.stack import CHAINS, Stack
from tests.support.waiting import wait_until

ENTITIES = ("crm_lead", "crm_deal", "crm_contact", "crm_company", "crm_item", "task")
MIRRORED: dict[str, Any] = {"objects": 120, "workers": 2}
HANDLED: dict[str, Any] = {"variables": {"B24_PIPELINES": CHAINS, "B24_MAX_ATTEMPTS": "2"}, "time_scale": 0.02}


def test_a_deletion_of_an_object_that_exists_is_ignored(start_stack: Callable[..., Stack]) -> None:
    """An id may be reused (a currency's is), and the deletion before be the last event to run."""
    stack = start_stack(**MIRRORED)
    there, hidden = (deal["id"] for deal in stack.control.objects("crm_deal")[:2])
    stack.control.change("crm_deal", "update", ids=[there, hidden])
    wait_until(stack.settled, "both are in the mirror")
    refused = {"status": 400, "code": "ERROR_ARGUMENT", "where": {"id": hidden}}
    stack.control.fault("crm.deal.get", "error", **refused)
    stack.control.fault("batch/crm.deal.get", "error", **refused)
    stack.control.fault("batch/crm.deal.list", "error", status=400, code="ERROR_ARGUMENT")
    for deal in (there, hidden):
        stack.control.raise_event("ONCRMDEALDELETE", {"FIELDS": {"ID": deal}}, entity="crm_deal", id=deal)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 4 and stack.settled(), "the deletions ran")
    rows = {row.object_id: row for row in stack.runtime.mirror.rows("acme") if row.entity == "crm_deal"}
    assert rows[there].deleted_at is None
    assert rows[hidden].deleted_at is not None


def test_every_entity_is_mirrored_and_acknowledged(start_stack: Callable[..., Stack], broker_url: str) -> None:
    stack = start_stack(broker_url, **MIRRORED)
    for entity in ENTITIES:
        stack.control.change(entity, "update", count=6)
        stack.control.change(entity, "add", count=3)
        stack.control.change(entity, "delete", count=2)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) >= 60 and stack.settled(), "all is settled")
    found = stack.compare()
    assert found.equal, found
    assert found.compared >= 60
    assert stack.counters["events_seen"] == stack.counters["events_acknowledged"]
    assert not stack.history("nacked")
    assert len(stack.history("cleared")) == stack.counters["events_acknowledged"]

    acknowledged, refreshes = stack.counters["events_acknowledged"], stack.control.state()["token_refreshes"]
    stack.control.expire_tokens()
    stack.control.change("crm_deal", "update", count=10)
    stack.control.change("task", "update", count=10)
    wait_until(lambda: stack.counters["events_acknowledged"] == acknowledged + 20 and stack.settled(), "the rest, too")
    assert stack.compare().equal
    assert stack.control.state()["token_refreshes"] == refreshes + 1, "expired tokens cost one refresh"


def test_two_pipelines_of_one_event_and_an_early_end(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**HANDLED)
    redis.hset(chains.MODE, "*", "ignore")
    ids = stack.control.change("crm_lead", "update", count=4)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 4, "both pipelines of each are done")
    assert redis.hgetall("test:counted") == {f"crm_lead {lead}": "1" for lead in ids}
    assert redis.llen(chains.EFFECTS) == 4


@pytest.mark.parametrize("mode", ["fail", "permanent"])
def test_a_failed_event_is_nacked_and_runs_again(start_stack: Callable[..., Stack], redis: Redis, mode: str) -> None:
    stack = start_stack(**HANDLED)
    redis.hset(chains.MODE, "*", mode)
    stack.control.change("crm_deal", "update", count=1)
    wait_until(lambda: stack.counters.get("events_nacked", 0) == 1, "the failure is nacked")
    runs_before = redis.llen(chains.RUNS)
    assert runs_before == (2 if mode == "fail" else 1), "deterministic failures burn no retries"
    redis.delete(chains.MODE)
    wait_until(stack.settled, "the nacked record runs again and is cleared")
    assert stack.compare().equal
    assert len(stack.history("nacked")) == 1, "a record fetched with error=1 is never nacked again"
    assert not stack.history("deleted_by_error")
    assert stack.counters["batches_retrying"] == 1


def test_a_pipeline_that_cannot_be_built_fails_alone(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**HANDLED)
    stack.control.change("crm_company", "update", count=1)
    stack.control.change("crm_deal", "update", count=5)
    wait_until(lambda: stack.counters.get("events_nacked", 0) == 1, "the broken one is nacked")
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) == 5, "the others are acknowledged")
    wait_until(lambda: stack.counters.get("batches_retrying", 0) == 1, "the nacked record is retried")
    redis.set("test:repaired", 1)
    wait_until(stack.settled, "it runs once its pipeline is repaired")


def test_handlers_that_crash_fail_alone(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**HANDLED)
    deals = [deal["id"] for deal in stack.control.objects("crm_deal")][:7]
    redis.hset(chains.MODE, f"crm_deal {deals[0]}", "die")
    stack.control.change("crm_deal", "update", ids=deals)
    wait_until(lambda: stack.counters.get("runs_failed", 0) == 1, "the crash budget is exhausted")
    wait_until(lambda: stack.control.state()["free_nacked"] == 1, "the event is nacked")
    wait_until(lambda: stack.counters["events_acknowledged"] >= 6, "the others are acknowledged")
    attempts = [int(line.rpartition(" ")[2]) for line in redis.lrange(chains.RUNS, 0, -1)]
    assert max(attempts) >= 3
    redis.delete(chains.MODE)
    wait_until(stack.settled, "it is retried and succeeds")


def test_unrouted_events_wait_on_the_portal_for_a_route(start_stack: Callable[..., Stack]) -> None:
    stack = start_stack(variables={"B24_PIPELINES": CHAINS, "B24_EVENTS": "ONTASKADD"}, time_scale=0.02)
    stack.control.change("task", "add", count=2)
    wait_until(lambda: stack.control.state()["nacked"] == 2, "they are nacked")
    wait_until(lambda: not stack.services.ledger.open_batches(), "the ledger holds nothing of them")
    stack.replace_workers(B24_PIPELINES=f"{CHAINS},b24offline.pipelines.project_tasks")
    wait_until(stack.settled, "they run and are cleared")
    assert stack.compare().equal
    assert stack.counters["batches_retrying"] == 2
    assert stack.counters["events_unrouted"] == 2
    assert len(stack.history("nacked")) == 2, "none is nacked a second time"


def test_a_backlog_beyond_the_rate_limit_is_read_in_bulk(start_stack: Callable[..., Stack]) -> None:
    """At two requests a second 300 single reads would take 150 s."""
    stack = start_stack(
        objects=2400,
        concurrency=12,
        variables={"B24_REQUESTS_PER_SECOND": "2", "B24_BURST": "3", "B24_BATCH_SIZE": "20"},
        time_scale=0.1,
    )
    stack.control.limits(drain=2, holds=10, off=False)
    for entity in ("crm_deal", "crm_lead", "task"):
        stack.control.change(entity, "update", count=100)
    wait_until(stack.settled, "all is settled")
    assert stack.compare().equal
    calls = [call["method"] for call in stack.control.requests() if not call.get("batch")]
    reads = [name for name in calls if name.startswith(("crm.", "tasks.")) and name.endswith(".get")]
    assert len(reads) < 100, f"{len(reads)} single reads"
    assert stack.control.state()["bucket"]["refused"] <= 3, "the rate limiter keeps the portal's limit"
