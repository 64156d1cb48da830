"""Nothing new is polled while the broker is full, and polling goes on by itself; `status` names why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from b24offline import contract, keys
from b24offline.delivery.subscriber import Subscriber
from b24offline.ledger import BROKER_TTL_SECONDS
from b24offline.monitoring import portal_status
from b24offline.tasks import app
from b24offline.tasks import poll as polling
from tests.support.celery_bench import broker, deployed, nowhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from b24offline.runtime import Runtime
    from tests.support.rabbit import RabbitNode

__all__ = ["broker", "deployed", "nowhere"]

MOST = 100
FULL = {"B24_MAX_QUEUED_MESSAGES": str(MOST)}
PREFIX = "b24offline"


class Gate:
    """What ticks send for a portal that is always due, and what `status` says."""

    def __init__(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runtime = runtime
        self.sent: list[str] = []
        monkeypatch.setattr(polling.poll, "delay", self.sent.append)
        monkeypatch.setattr(Subscriber, "due", lambda *_: False)

    def tick(self) -> str:
        """Tick with everything due and nothing remembered of a look before; return what it says."""
        redis = self.runtime.redis
        redis.delete(*(keys.once_per(PREFIX, what) for what in ("tick", "broker-load")), keys.queued(PREFIX))
        self.runtime.poll_soon("acme")
        self.sent.clear()
        return polling.tick()

    def issues(self) -> dict[str, str]:
        runtime = self.runtime
        status = portal_status(runtime.store, runtime.redis, runtime.config, runtime.store.portals.get("acme"))
        return {issue.code: issue.message for issue in status.issues}

    def expect_closed(self, why: str) -> None:
        assert self.tick() == f"nothing polled, the broker is full: {why}"
        assert self.sent == []
        assert polling.poll("acme") == "default broker_full"
        assert f"because the broker is full: {why}." in self.issues()["broker_full"]

    def expect_open(self) -> None:
        assert self.tick() == "due: acme"
        assert self.sent == ["acme"]
        assert self.issues().keys().isdisjoint({"broker_full", "broker_unseen"})


@pytest.fixture(params=["Redis", "RabbitMQ"])
def gate(
    request: pytest.FixtureRequest,
    deployed: Callable[..., Runtime],
    broker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Gate]:
    runtime = deployed(**FULL)
    if request.param == "RabbitMQ":
        broker(request.getfixturevalue("rabbit").url)
    with app.connection_for_write() as connection:
        queues = [queue(connection.default_channel) for queue in app.amqp.queues.values()]
        for queue in queues:
            queue.delete()  # another test made it of another type
            queue.declare()
        yield Gate(runtime, monkeypatch)
        for queue in queues:
            queue.delete()


def test_polling_stops_while_our_queues_are_deep_and_goes_on_by_itself(gate: Gate) -> None:
    gate.expect_open()
    with app.connection_for_write() as connection:
        producer = connection.Producer()
        for number in range(MOST + 1):
            queue = (contract.QUEUE_EVENTS, contract.QUEUE_SETTLE)[number % 2]
            producer.publish({}, exchange="", routing_key=queue)
        gate.expect_closed(f"{MOST + 1} messages wait in our queues, more than {MOST}")
        app.amqp.queues[contract.QUEUE_SETTLE](connection.default_channel).get(no_ack=True)
    gate.expect_open()


def test_the_broker_is_asked_once_in_a_few_seconds_and_a_look_does_not_hold_for_ever(gate: Gate) -> None:
    gate.expect_open()
    asked: list[str] = []
    for _ in range(3):
        gate.runtime.broker_gate.look(lambda: asked.append("again"))  # type: ignore[arg-type,return-value]
    assert asked == []
    gate.runtime.redis.set(keys.broker_full(PREFIX), "of a look long ago", ex=BROKER_TTL_SECONDS)
    assert 0 < gate.runtime.redis.ttl(keys.broker_full(PREFIX)) <= BROKER_TTL_SECONDS


def test_polling_stops_while_a_redis_broker_is_short_of_memory(
    deployed: Callable[..., Runtime], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(deployed(**FULL), monkeypatch)
    monkeypatch.setattr("b24offline.delivery.portal_bounds.memory_share", lambda redis: 0.0)  # the ledger is elsewhere
    used = int(redis.info("memory")["used_memory"])
    redis.config_set("maxmemory", round(used / 0.9))
    try:
        assert gate.tick().startswith("nothing polled, the broker is full: it uses 9")
        assert polling.poll("acme") == "default broker_full"
    finally:
        redis.config_set("maxmemory", 0)
    gate.expect_open()


def test_polling_stops_while_rabbitmq_takes_no_messages(
    deployed: Callable[..., Runtime],
    broker: Callable[[str], None],
    rabbit: RabbitNode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(deployed(**FULL), monkeypatch)
    broker(rabbit.url)
    gate.expect_open()
    rabbit.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        gate.expect_closed("it takes no messages, for lack of memory or disk")
    finally:
        rabbit.control("set_vm_memory_high_watermark", "0.6")
    gate.expect_open()


def test_a_broker_that_does_not_tell_stops_nothing_and_is_an_issue(
    deployed: Callable[..., Runtime],
    broker: Callable[[str], None],
    nowhere: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(deployed(**FULL), monkeypatch)
    broker(nowhere)
    assert gate.tick() == "due: acme"
    assert gate.sent == ["acme"]
    assert "The broker does not say how many messages wait" in gate.issues()["broker_unseen"]
    assert [record.message for record in caplog.records].count("the broker does not tell what waits") == 1
    gate.tick()
    assert [record.message for record in caplog.records].count("the broker does not tell what waits") == 1
