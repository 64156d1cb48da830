"""Retries by the rules of a step and of a pipeline, with real workers: how often, when, and when not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from redis import Redis

from b24offline import keys
from b24offline.delivery import run_of_dead_letter
from tests.support import retry_chains
from tests.support.stack import PORTAL, Stack
from tests.support.waiting import wait_until

CHAINS = "tests.support.retry_chains"
OPTIONS: dict[str, Any] = {"variables": {"B24_PIPELINES": CHAINS}, "time_scale": 0.05}


def ran(redis: Redis) -> Counter[str]:
    """Return how often each handler began: ``crm_deal choosy`` -> times."""
    rows = cast("list[str]", redis.lrange(retry_chains.RUNS, 0, -1))
    return Counter(row.rpartition(" ")[0] for row in rows)


def nacked(stack: Stack) -> int:
    return len(stack.history("nacked"))


def test_a_long_wait_is_in_the_ledger_and_restarts_the_run(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**OPTIONS)
    ledger = stack.services.ledger

    def waiting() -> list[tuple[str, float]]:
        """Return the runs that wait longer than a message would: a shorter wait may be for the object."""
        rows = redis.zrange(keys.due(ledger.stem), 0, -1, withscores=True)
        found = [(str(name), (score - ledger.now_ms()) / 1000) for name, score in rows if str(name).startswith("run:")]
        return [
            (name, seconds)
            for name, seconds in found
            if seconds > 60 and ledger.run_fields(name[4:], "state") == ("waiting",)
        ]

    redis.hset(retry_chains.MODE, "crm_contact", "patient")
    stack.control.change("crm_contact", "update", count=1)
    [(run, seconds)] = wait_until(waiting, "the second step failed, and the run waits")
    assert seconds <= 180, "3600 s at a scale of 0.05"
    redis.hdel(retry_chains.MODE, "crm_contact")
    redis.zadd(keys.due(ledger.stem), {run: 1}, xx=True)
    wait_until(stack.settled, "the sweep starts it again, and it succeeds")
    assert ran(redis) == {"crm_contact plain": 2, "crm_contact patient": 2}
    assert not nacked(stack)


def test_a_final_error_is_dead_lettered_after_two_runs(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**OPTIONS)
    redis.hset(retry_chains.MODE, mapping={"crm_deal": "key", "crm_lead": "permanent", "crm_contact": "type"})
    for entity in ("crm_deal", "crm_lead", "crm_contact"):
        stack.control.change(entity, "update", count=1)
    wait_until(lambda: len(stack.runtime.store.dead_letters.list(PORTAL)) == 3, "all three are dead-lettered")
    assert ran(redis) == {"crm_deal choosy": 2, "crm_lead plain": 2, "crm_contact plain": 2}
    assert {dead_letter.reason for dead_letter in stack.runtime.store.dead_letters.list(PORTAL)} == {
        "KeyError",
        "Permanent",
        "TypeError",
    }
    assert nacked(stack) == 3
    assert not stack.history("deleted_by_error")
    assert stack.control.state()["records"] == 3, "a dead-lettered record was cleared"
    log = stack.workers[0].log_path
    wait_until(lambda: "3 dead letters wait" in log.read_text(), "the alarm is logged")
    for dead_letter in stack.runtime.store.dead_letters.list(PORTAL):
        assert stack.services.dead_letter_queue.drop(run_of_dead_letter(dead_letter), "the test") == "dropped"
    wait_until(stack.settled, "what was dropped is cleared")
    wait_until(lambda: "alarm is over" in log.read_text(), "the alarm ends")


def test_attempts_follow_the_rules_of_step_and_pipeline(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**OPTIONS)
    redis.hset(retry_chains.MODE, mapping={"crm_deal": "value", "crm_lead": "value"})
    for entity in ("crm_deal", "crm_lead", "crm_company", "task"):
        stack.control.change(entity, "update", count=1)
    wait_until(lambda: nacked(stack) == 3, "deal, lead and company are nacked, each once")
    assert ran(redis) == {
        "crm_deal choosy": 3,
        "crm_lead plain": 2,
        "crm_company loose": 1,
        "task loose": 1,
        "task plain": 1,
    }
    assert stack.counters["runs_failed"] == 3
    assert "runs_crashed" not in stack.counters, "a result that cannot be encoded was counted as a crash"
