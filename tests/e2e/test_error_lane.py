"""Dead letters with real workers: what keeps failing is dead-lettered, redriven or dropped; other events go on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from b24offline import keys
from b24offline.ledger import error_lane
from b24offline.supervisor import child_environ
from tests.support import chains
from tests.support.stack import CHAINS, PORTAL, Stack
from tests.support.waiting import wait_until

OPTIONS: dict[str, Any] = {"variables": {"B24_PIPELINES": CHAINS, "B24_MAX_ATTEMPTS": "1"}, "time_scale": 0.02}


def command(stack: Stack, *words: str, code: int = 0) -> Any:
    """Run `b24offline` as an operator does. Return its JSON."""
    reply = subprocess.run(
        [sys.executable, "-m", "b24offline", *words, "--json"],
        env=child_environ(stack.variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert reply.returncode == code, reply.stderr
    return json.loads(reply.stdout)


def hurry(stack: Stack, redis: Redis) -> int:
    """End the waits of retrying runs, which would take days. Return how many runs are dead-lettered."""
    dead_lettered, due = 0, keys.due(stack.services.ledger.stem)
    for row in error_lane(redis, stack.services.ledger):
        if row.state == "waiting":
            for member in redis.zscan_iter(due, match=f"run:{row.record_id}@*{row.pipeline}"):
                redis.zadd(due, {member[0]: 1}, xx=True)
        dead_lettered += row.state == "dead_lettered"
    return dead_lettered


def dead_letter_one(stack: Stack, redis: Redis, entity: str = "crm_deal") -> str:
    """Change an object whose handler always fails. Return its id once the event is dead-lettered."""
    [unlucky] = stack.control.change(entity, "update", count=1)
    # The first change only chooses the object.
    redis.hset(chains.MODE, f"{entity} {unlucky}", "fail")
    stack.control.change(entity, "update", ids=[unlucky])
    wait_until(lambda: hurry(stack, redis), "the event is dead-lettered")
    return str(unlucky)


def dead_letters(stack: Stack, *, ended: bool = False) -> list[Any]:
    return stack.runtime.store.dead_letters.list(PORTAL, ended=ended)


@pytest.mark.parametrize(("entity", "reason"), [("crm_deal", "ValueError"), ("crm_company", "KeyError")])
def test_a_dead_letter_runs_after_its_redrive(
    start_stack: Callable[..., Stack], redis: Redis, entity: str, reason: str
) -> None:
    stack = start_stack(**OPTIONS)
    dead_letter_one(stack, redis, entity)
    [dead_letter] = dead_letters(stack)
    assert dead_letter.reason == reason
    before = stack.counters.get("events_acknowledged", 0)
    stack.control.change("crm_lead", "update", count=10)
    wait_until(lambda: stack.counters.get("events_acknowledged", 0) >= before + 10, "the others are settled")
    assert stack.control.state()["records"] == 1, "a dead-lettered record was cleared"
    assert [row["now"] for row in command(stack, "dead-letter", "list")] == ["dead-lettered"]

    redis.delete(chains.MODE)
    redis.set("test:repaired", 1)
    assert command(stack, "dead-letter", "redrive", "--all") == {"dead_letters": {str(dead_letter.id): "redriven"}}
    wait_until(stack.settled, "it runs, and the queue is empty")
    assert dead_letters(stack) == []
    assert dead_letter.id in {ended.id for ended in dead_letters(stack, ended=True)}
    assert len(stack.history("nacked")) == 1, "nacked twice"
    assert not stack.history("deleted_by_error")
    assert not list(redis.scan_iter(f"{stack.services.ledger.stem}:yielded:*"))


def test_the_success_of_a_repeat_ends_the_dead_letter(start_stack: Callable[..., Stack], redis: Redis) -> None:
    stack = start_stack(**OPTIONS)
    deal = dead_letter_one(stack, redis)
    redis.delete(chains.MODE)
    stack.control.change("crm_deal", "update", ids=[deal])
    wait_until(stack.settled, "the repeat and the dead-lettered record are cleared")
    assert stack.compare().equal
    assert dead_letters(stack) == []
    assert stack.counters["runs_superseded"] == 1
    assert not stack.history("deleted_by_error")


def test_an_object_that_keeps_failing_has_one_dead_letter_which_can_be_dropped(
    start_stack: Callable[..., Stack], redis: Redis
) -> None:
    stack = start_stack(**OPTIONS)
    deal = dead_letter_one(stack, redis)
    for number in (2, 3):
        stack.control.change("crm_deal", "update", ids=[deal])
        wait_until(lambda n=number: len(stack.history("nacked")) >= n, "the repeat failed and was nacked")
        wait_until(
            lambda n=number: hurry(stack, redis) and stack.counters["runs_dead_lettered"] >= n,
            "it replaces the older dead letter",
        )
    wait_until(lambda: stack.control.state()["records"] == 1, "only the newest record stays")
    wait_until(lambda: len(dead_letters(stack)) == 1, "only its dead letter is open")

    runs = redis.llen(chains.RUNS)
    [dead_letter] = dead_letters(stack)
    assert command(stack, "dead-letter", "drop", str(dead_letter.id), "--yes") == {
        "dead_letters": {str(dead_letter.id): "dropped"}
    }
    wait_until(stack.settled, "its record is cleared")
    assert redis.llen(chains.RUNS) == runs
    [ended] = [ended for ended in dead_letters(stack, ended=True) if ended.id == dead_letter.id]
    assert "dropped by" in ended.reason
    assert not stack.history("deleted_by_error")
