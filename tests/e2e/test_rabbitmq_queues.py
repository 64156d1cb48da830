"""RabbitMQ: the type of our queues, delayed messages, and queues of another type."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import kombu
import pytest
from amqp.exceptions import PreconditionFailed
from kombu.transport import native_delayed_delivery
from redis import Redis

from b24offline.config import Config
from b24offline.contract import EXCHANGE, QUEUE_EVENTS, QUEUES
from b24offline.tasks import celery_app
from tests.e2e.test_start import celery
from tests.support import chains
from tests.support.rabbit import RabbitNode
from tests.support.stack import CHAINS, Stack, StandingStack
from tests.support.waiting import wait_until

LANE = {"name": "deals", "filter": {"=EVENT_NAME": "ONCRMDEALADD"}, "queue": "b24offline.deals"}


def is_of_type(url: str, name: str, kind: str) -> bool:
    """Return whether the broker's queue is of this kind, quorum or classic."""
    arguments = {"x-queue-type": "quorum"} if kind == "quorum" else None
    with kombu.Connection(url) as connection:
        try:
            kombu.Queue(name, queue_arguments=arguments)(connection.default_channel).queue_declare()
        except PreconditionFailed:
            return False
    return True


def major_version(url: str) -> int:
    """Return the major version of a RabbitMQ."""
    with kombu.Connection(url) as connection:
        connection.connect()
        return int(str(connection.connection.server_properties["version"]).split(".")[0])


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_steps_that_wait_do_not_block_the_queue(
    standing: StandingStack, start_stack: Callable[..., Stack], rabbit: RabbitNode, redis: Redis, kind: str
) -> None:
    standing.close()  # its workers would declare the queue again
    with kombu.Connection(rabbit.url) as connection:
        connection.default_channel.queue_delete(LANE["queue"])
    stack = start_stack(
        rabbit.url,
        concurrency=2,
        all_queues=True,
        time_scale=0.25,
        variables={
            "B24_PIPELINES": CHAINS,
            "B24_RABBITMQ_QUEUES": kind,
            "B24_LANES": json.dumps([LANE]),
            "B24_FILTER": json.dumps({"=EVENT_NAME": "ONCRMLEADUPDATE"}),
            "B24_POLL_INTERVAL_MAX_SECONDS": "1",
        },
    )
    assert is_of_type(rabbit.url, QUEUE_EVENTS, kind)
    assert is_of_type(rabbit.url, "b24offline.deals", kind)
    redis.hset(chains.MODE, "*", "fail")
    deals = stack.control.change("crm_deal", "add", count=6)
    failed = 4 * len(deals)
    wait_until(lambda: redis.llen(chains.RUNS) >= failed, "all deals wait 15 s for their last retry")
    for deal in deals:
        redis.hset(chains.MODE, f"crm_deal {deal}", "fail")
    redis.hdel(chains.MODE, "*")
    stack.control.change("crm_deal", "add", count=3)
    wait_until(lambda: redis.llen(chains.EFFECTS) == 3, "other deals are handled meanwhile")
    # From RabbitMQ 4 on Celery lets what waits hold the places of a classic queue's worker: docs/adr/0010.
    held = kind == "classic" and major_version(rabbit.url) >= 4
    assert (redis.llen(chains.RUNS) > failed + 3) == held, "whether those that waited ran before the others"
    redis.delete(chains.MODE)
    wait_until(lambda: redis.llen(chains.EFFECTS) == 3 + len(deals), "those that waited come back")
    wait_until(lambda: not stack.services.ledger.open_batches(), "all are settled")


def test_a_delayed_message_does_not_wait_for_the_workers_clock(
    rabbit: RabbitNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_app.settings, "config", Config(broker_url=rabbit.url))
    exchange = kombu.Exchange(EXCHANGE, type="topic")
    queue = kombu.Queue(
        "b24offline.waiting", exchange, "b24offline.waiting", queue_arguments={"x-queue-type": "quorum"}
    )
    with (
        celery_app.Application("waiting", broker=rabbit.url, set_as_current=False) as app,
        app.connection_for_read() as connection,
    ):
        app.conf.update(task_queues=(queue,), task_default_queue=queue.name)
        ours = queue(connection.default_channel)
        ours.declare()
        ours.purge()
        native_delayed_delivery.declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        native_delayed_delivery.bind_queue_to_native_delayed_delivery_exchange(connection, queue)
        began = time.monotonic()
        app.send_task("waits", countdown=0.4, queue=queue.name)
        message = wait_until(lambda: ours.get(no_ack=True), "the message arrives")
        assert time.monotonic() - began > 0.9
        assert message.headers["eta"] is None


@pytest.mark.parametrize(
    ("there", "wanted", "command"), [("classic", "quorum", "worker"), ("quorum", "classic", "beat")]
)
def test_queues_of_another_type_stop_the_start(
    standing: StandingStack, rabbit: RabbitNode, there: str, wanted: str, command: str
) -> None:
    standing.close()
    arguments = {"x-queue-type": "quorum"} if there == "quorum" else None
    with kombu.Connection(rabbit.url) as connection:
        channel = connection.default_channel
        for name in QUEUES:
            channel.queue_delete(name)
        queue = kombu.Queue(QUEUE_EVENTS, kombu.Exchange(QUEUE_EVENTS), QUEUE_EVENTS, queue_arguments=arguments)
        queue(channel).declare()
        done = celery(command, variables={"CELERY_BROKER_URL": rabbit.url, "B24_RABBITMQ_QUEUES": wanted})
        channel.queue_delete(QUEUE_EVENTS)
    assert done.returncode != 0
    assert "b24offline cannot start" in done.stderr
    assert "B24_RABBITMQ_QUEUES" in done.stderr
    assert "Traceback" not in done.stderr
