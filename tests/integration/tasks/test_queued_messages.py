"""At most one tick and one sweep wait in the queue, however long no worker reads; none that is lost is missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kombu
import pytest

from b24offline import keys, supervisor
from b24offline.contract import QUEUE_POLL, TASK_POLL, TASK_SWEEP, TASK_TICK
from b24offline.ledger import QueuedMessages
from b24offline.ledger.transitions import clock_ms
from tests.support.stack import Stack
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis import Redis

    from b24offline.supervisor import EmbeddedValkey

PATIENCE = 5.0
KEY = keys.queued("b24offline")


def aged(redis: Redis, seconds: float, *fields: str) -> None:
    """Let notes be older."""
    for field in fields or redis.hkeys(KEY):
        redis.hincrby(KEY, field, -round(seconds * 1000))


@pytest.fixture
def queued(redis: Redis) -> QueuedMessages:
    return QueuedMessages(redis, "b24offline", PATIENCE)


def test_a_message_that_waits_is_not_sent_again(redis: Redis, queued: QueuedMessages) -> None:
    assert queued.begin_unless_waiting(TASK_TICK, lambda: pytest.fail("the broker was asked"))
    assert not queued.begin_unless_waiting(TASK_TICK, lambda: pytest.fail("the broker was asked"))
    aged(redis, 86_400)
    assert not queued.begin_unless_waiting(TASK_TICK, lambda: 1)
    sent = queued.take(TASK_TICK)
    assert clock_ms(redis) - sent >= 86_400_000
    assert queued.begin_unless_waiting(TASK_TICK, lambda: 1)


@pytest.mark.parametrize("how", ["empty queue", "a later one was read", "from the future", "no note"])
def test_a_message_that_is_lost_is_sent_again(redis: Redis, queued: QueuedMessages, how: str) -> None:
    queued.begin(TASK_TICK)
    aged(redis, 2 * PATIENCE)
    waiting = 0 if how == "empty queue" else 7
    if how == "a later one was read":
        queued.begin(TASK_SWEEP)
        aged(redis, PATIENCE + 1, TASK_TICK)
        assert not queued.begin_unless_waiting(TASK_TICK, lambda: waiting)
        queued.take(TASK_SWEEP)
    elif how == "from the future":
        aged(redis, -86_400)
    elif how == "no note":
        redis.delete(KEY)
    assert queued.begin_unless_waiting(TASK_TICK, lambda: waiting)
    assert not queued.begin_unless_waiting(TASK_TICK, lambda: waiting)


def test_reading_a_message_of_before_tells_nothing(redis: Redis, queued: QueuedMessages) -> None:
    """Under a backlog what is read now was sent long ago."""
    queued.begin(TASK_SWEEP)
    aged(redis, 60)
    queued.begin(TASK_TICK)
    aged(redis, 30)
    queued.take(TASK_SWEEP)
    assert not queued.begin_unless_waiting(TASK_TICK, lambda: 7)


def test_a_portal_whose_poll_waits_gets_no_second_one(redis: Redis, queued: QueuedMessages) -> None:
    assert queued.begin(TASK_POLL, ["a", "b"]) == ["a", "b"]
    assert queued.begin(TASK_POLL, ["a", "b", "c"]) == ["c"]
    aged(redis, 1)
    queued.begin(TASK_TICK)
    assert queued.begin(TASK_POLL, ["a", "b"], queued.take(TASK_TICK)) == ["a", "b"], "sent before the tick, and lost"
    queued.take(TASK_POLL, "b")
    assert queued.begin(TASK_POLL, ["a", "b"]) == ["b"]
    assert queued.begin(TASK_POLL, []) == []


@pytest.fixture(params=["valkey", "rabbitmq"])
def broker_url(request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> Iterator[str]:
    if request.param == "valkey":
        yield valkey.url
    else:
        yield request.getfixturevalue("rabbit").url


def waiting(url: str) -> list[str]:
    """Return the tasks whose messages are in the queue of polls; they stay there."""
    names = []
    with kombu.Connection(url) as connection:
        channel: Any = connection.default_channel
        while (message := channel.basic_get(QUEUE_POLL)) is not None:
            names.append(str(message.headers["task"]))
    return names


def test_no_ticks_pile_up_while_no_worker_reads(
    tmp_path: Path, valkey: EmbeddedValkey, redis: Redis, broker_url: str
) -> None:
    beats = tmp_path / "beats"
    variables = {"B24_TICK_SECONDS": "0.1", "B24_HEARTBEAT_FILE": str(beats)}
    with Stack(tmp_path, valkey.url, broker_url, bind=False, workers=0, variables=variables) as stack:
        seen: set[float] = set()

        def ticked(count: int) -> bool:
            if beats.exists():
                seen.add(beats.stat().st_mtime)
            return len(seen) >= count

        wait_until(lambda: ticked(30), "beat is alive all the time", pause_seconds=0.05)
        stack.beat.stop()
        assert sorted(waiting(broker_url)) == [TASK_SWEEP, TASK_TICK]
        stack.beat.start()
        worker = supervisor.worker("w0", environ=supervisor.child_environ(stack.variables), folder=tmp_path)
        try:
            worker.start()
            wait_until(lambda: stack.control.state()["bindings"], "a worker works on what waits")
            for lost in ("", "queue", "note"):
                if lost == "queue":
                    with kombu.Connection(broker_url) as connection:
                        connection.default_channel.queue_purge(QUEUE_POLL)
                    redis.hset(KEY, mapping=dict.fromkeys((TASK_TICK, TASK_SWEEP), clock_ms(redis)))
                elif lost == "note":
                    redis.delete(KEY)
                stack.control.change("crm_deal", "update", count=3)
                wait_until(stack.settled, f"all is settled after the loss of the {lost}")
        finally:
            worker.kill()
            print(worker.log_tail(3000), stack.beat.log_tail(3000))
