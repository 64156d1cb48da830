"""Reconciliation and runs by hand with real workers: the mirror equals the portal."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from b24offline import keys
from b24offline.ledger import RECONCILE, is_synthetic
from b24offline.reconciliation import Job
from b24offline.rest import bind_events
from tests.e2e.test_error_lane import command, dead_letters, hurry
from tests.support import chains
from tests.support.stack import CHAINS, Stack
from tests.support.waiting import wait_until

ENTITIES = ("crm_lead", "crm_deal", "crm_contact", "crm_company", "crm_item", "task")
MIRRORED: dict[str, Any] = {"objects": 0, "time_scale": 0.02, "variables": {"B24_SUBSCRIPTION_CHECK_SECONDS": "86400"}}
HANDLED: dict[str, Any] = {"variables": {"B24_PIPELINES": CHAINS, "B24_MAX_ATTEMPTS": "1"}, "time_scale": 0.02}
EACH = 80
"""Objects of each entity: more than a batch, and few enough for a slow machine."""
SLOW_SECONDS = 900
"""How long these may take there; nothing of it is waited for without need."""
DELETING = ("event.offline.clear", "event.offline.error")


def filled(stack: Stack) -> None:
    """Add six objects of each entity and wait until they are mirrored and the second has passed."""
    for entity in ENTITIES:
        stack.control.change(entity, "add", count=6)
    wait_until(lambda: stack.settled() and stack.compare().compared == 36 and stack.compare().equal, "all is mirrored")
    time.sleep(1.1)  # a second change within the second of the first one has the same date


def blind(stack: Stack) -> None:
    """Drop the subscriptions, then change four objects of each entity."""
    stack.control.drop_subscriptions()
    for entity in ENTITIES:
        there = [each["id"] for each in stack.control.objects(entity) if not each["deleted"]]
        first, second, third = there[-3:]
        stack.control.change(entity, "update", ids=[first, second])
        stack.control.change(entity, "add", count=1)
        stack.control.change(entity, "delete", ids=[third])
    assert stack.control.state()["records"] == 0
    time.sleep(1.1)


def destroying_calls(stack: Stack) -> int:
    return sum(stack.control.state()["requests"].get(name, 0) for name in DELETING)


def all_run(stack: Stack) -> bool:
    return not stack.services.ledger.open_batches()


@pytest.mark.parametrize("died", [False, True], ids=["found", "bound by a worker that died then"])
def test_vanished_subscriptions_are_followed_by_reconciliation(
    start_stack: Callable[..., Stack], redis: Redis, died: bool
) -> None:
    stack = start_stack(**MIRRORED)
    filled(stack)
    names = {binding["event"] for binding in stack.control.state()["bindings"]}
    blind(stack)
    if died:
        bind_events(stack.services.client, stack.services.portal.connector, names)
        redis.set(keys.bound(stack.services.ledger.stem, "begun"), "1")
    redis.delete(keys.bound(stack.services.ledger.stem, "fresh"))
    wait_until(lambda: stack.control.state()["bindings"], "they are bound again")
    wait_until(lambda: stack.counters.get("events_synthetic", 0) == 24, "what changed meanwhile is injected")
    wait_until(lambda: stack.compare().equal and all_run(stack), "the mirror equals the portal")
    log = stack.workers[0].log_tail(60000)
    assert "changes whose events never came" in log


def test_missed_changes_are_found_by_hand(start_stack: Callable[..., Stack]) -> None:
    stack = start_stack(**MIRRORED)
    filled(stack)
    blind(stack)
    since = datetime.now(UTC).isoformat()
    grace = stack.runtime.grace_seconds
    time.sleep(grace + 1.5)
    assert command(stack, "reconcile", "--since", since)["missed"] == 0, "objects that changed before"
    calls = destroying_calls(stack)

    looked = command(stack, "reconcile", "--since", "1h", "--deleted", "--dry-run")
    assert (looked["missed"], looked["gone"]) == (18, 6)
    assert len(looked["found"]) == 24
    assert not stack.compare().equal
    assert all_run(stack)

    reply = command(stack, "reconcile", "--since", "1h", "--deleted")
    assert (reply["missed"], reply["gone"]) == (18, 6)
    assert reply["by_entity"] == dict.fromkeys(ENTITIES, 4)
    assert reply["not_comparable"] == {}
    assert stack.counters["events_synthetic"] == 24
    wait_until(lambda: stack.compare().equal and all_run(stack), "what was missed is run")
    assert stack.counters["synthetic_done"] == 24
    assert destroying_calls(stack) == calls, "a synthetic batch made a call of the queue"

    again = command(stack, "reconcile", "--since", "1h", "--deleted")
    assert (again["missed"], again["gone"]) == (0, 0)
    assert again["compared"] > 36


@pytest.mark.timeout(2 * SLOW_SECONDS)
def test_a_killed_reconciliation_is_continued(start_stack: Callable[..., Stack]) -> None:
    options = {**MIRRORED["variables"], "B24_REQUESTS_PER_SECOND": "5", "B24_BURST": "5"}
    stack = start_stack(**{**MIRRORED, "variables": options}, workers=2)
    stack.control.drop_subscriptions()
    for entity in ENTITIES:
        stack.control.change(entity, "add", count=EACH)
    time.sleep(stack.runtime.grace_seconds + 1.5)
    job = Job("by hand", 0)
    number = stack.services.requests.enqueue(RECONCILE, job.body())
    for worker in stack.workers:
        before = stack.counters.get("events_synthetic", 0)
        wait_until(
            lambda n=before: stack.counters.get("events_synthetic", 0) > n or stack.services.requests.answer(number),
            "it is under way",
        )
        worker.kill()
        worker.start()
    reply = wait_until(lambda: stack.services.requests.answer(number), "it is done all the same")
    assert reply["missed"] == 6 * EACH
    wait_until(lambda: all_run(stack) and stack.compare().equal, "the mirror equals the portal", SLOW_SECONDS)
    assert stack.counters["events_synthetic"] >= 6 * EACH, "a batch may be injected again, none may be left out"


def test_an_object_runs_by_hand(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**HANDLED)
    calls = destroying_calls(stack)
    lead = stack.control.objects("crm_lead")[0]["id"]
    reply = command(stack, "trigger", f"crm_lead {lead}")
    assert reply["event"] == "ONCRMLEADUPDATE"
    assert reply["pipelines"] == ["lead_handled", "lead_counted"]
    assert reply["record_id"] < 0
    wait_until(lambda: redis.hget("test:counted", f"crm_lead {lead}") == "1", "the second pipeline runs")
    command(stack, "trigger", "crm_lead", lead, "--pipeline", "lead_counted")
    wait_until(lambda: redis.hget("test:counted", f"crm_lead {lead}") == "2", "only that pipeline runs")
    assert len(redis.lrange(chains.EFFECTS, 0, -1)) == 1
    wait_until(lambda: all_run(stack), "nothing stays open")
    assert stack.control.state()["records"] == 0
    assert destroying_calls(stack) == calls
    assert "no update event" in command(stack, "trigger", "crm_quote 1", code=1)["why"]
    assert (
        "is not an event of" in command(stack, "trigger", f"crm_lead {lead}", "--event", "ONTASKUPDATE", code=1)["why"]
    )


@pytest.mark.parametrize("decision", ["redrive", "drop"])
def test_a_failed_run_by_hand_is_dead_lettered(start_stack: Callable[..., Stack], redis: Redis, decision: str) -> None:
    stack = start_stack(**HANDLED)
    deal = stack.control.objects("crm_deal")[0]["id"]
    redis.hset(chains.MODE, f"crm_deal {deal}", "fail")
    reply = command(stack, "trigger", f"crm_deal {deal}")
    wait_until(lambda: hurry(stack, redis), "it is dead-lettered")
    [dead_letter] = dead_letters(stack)
    assert (dead_letter.record_id, dead_letter.object) == (reply["record_id"], f"crm_deal {deal}")
    runs = redis.llen(chains.RUNS)
    stack.control.change("crm_deal", "update", ids=[deal])
    wait_until(lambda: redis.llen(chains.RUNS) > runs, "a dead-lettered run keeps newer changes from running")

    redis.delete(chains.MODE)
    done = {"redrive": "redriven", "drop": "dropped"}[decision]
    words = ["dead-letter", decision, str(dead_letter.id), *(["--yes"] if decision == "drop" else [])]
    before = redis.llen(chains.EFFECTS)
    assert command(stack, *words) == {"dead_letters": {str(dead_letter.id): done}}
    wait_until(lambda: not any(map(is_synthetic, stack.services.ledger.open_batches())), "its batch is closed")
    assert dead_letters(stack) == []
    if decision == "redrive":
        assert redis.llen(chains.EFFECTS) > before
    wait_until(stack.settled, "the newer change runs too")


def test_events_in_work_are_not_missed(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**HANDLED)
    time.sleep(1.1)
    since = datetime.now(UTC).isoformat()
    time.sleep(1.1)  # dates of the portal have whole seconds
    redis.hset(chains.MODE, "*", "fail")
    stack.control.change("crm_deal", "add", count=4)
    wait_until(lambda: stack.counters.get("runs_failed", 0) == 4, "they fail")
    time.sleep(stack.runtime.grace_seconds + 1.5)
    reply = command(stack, "reconcile", "--since", since)
    assert (reply["compared"], reply["missed"], reply["in_work"]) == (4, 0, 4)
    assert set(reply["not_comparable"]) == {"crm_lead", "crm_company", "crm_contact", "task"}
