"""Rows 53 and 54: steps that ask Celery for more, or never end; messages that others put into our queues."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from typing import Any, Final

import celery
import kombu
from kombu.exceptions import ChannelError
from redis import Redis

from b24offline import keys
from b24offline.contract import HEADER_WORK, QUEUE_EVENTS, QUEUE_POLL, QUEUE_SETTLE, TASK_FAILED, TASK_TICK
from b24offline.monitoring import portal_status
from tests.faults.journal import HARD_LIMIT, SOFT_LIMIT
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

THREADS: Final = ("--pool", "threads")
LIMITS: Final = {"B24_MAX_ATTEMPTS": "2", SOFT_LIMIT: "3"}
VICTIM: Final = "payroll"
"""A queue of another stack on the broker, to which nothing of ours may send."""


def _given_up(word: str, stage: Stage) -> None:
    """Let the handler of one object do something for ever; it is given up as any error, and the others go on."""
    stage.settle_some()
    with stage.unseen():
        [unlucky] = stage.change(1, "crm_company")
        stage.journal.tell(word, name=f"crm_company {unlucky}")
    stage.change(10)
    stage.noted(f"a handler that answers with: {word}")
    wait_until(lambda: stage.counters.get("events_nacked", 0) == 1, "it is given up", 90)
    wait_until(lambda: stage.counters.get("events_acknowledged", 0) >= 14, "the others are acknowledged", 60)
    stage.expect(all(worker.alive for worker in stage.workers), "all workers live")
    stage.journal.tell_nothing()


for _pool, _arguments in (("prefork", ()), ("threads", THREADS)):
    for _name, _word in (("its own retry", "retry"), ("Reject", "reject"), ("an endless loop", "loop")):

        def _play(stage: Stage, word: str = _word) -> None:
            _given_up(word, stage)

        fault(53, f"{_name}, {_pool}", plan=Plan(variables=LIMITS, arguments=_arguments), repeats=None)(_play)


@fault(
    53,
    "a call that blocks, threads",
    plan=Plan(variables={HARD_LIMIT: "3"}, arguments=THREADS, concurrency=6),
    repeats=None,
    overlap=True,
)
def blocked_thread(stage: Stage) -> None:
    """Nothing can end a thread: its lease ends, the run counts as crashed and goes on in another thread."""
    stage.settle_some()
    with stage.unseen():
        [unlucky] = stage.change(1, "crm_company")
        stage.journal.tell("hang", name=f"crm_company {unlucky}", times=1)
    stage.change(10)
    stage.noted("a handler that blocks its thread for an hour")
    wait_until(lambda: stage.counters.get("runs_crashed", 0) >= 1, "its lease ends", 60)
    wait_until(stage.empty, "the run is repeated, and settled", 60)


def forged(**embed: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Return the body of a message that asks the worker to send something to the victim."""
    options = {"exchange": VICTIM, "routing_key": VICTIM}
    callback = {"task": "payroll.pay", "args": [1], "kwargs": {}, "options": options}
    return [], {}, {name: [callback] if name != "chord" else callback for name in embed}


def messages() -> list[tuple[Any, dict[str, Any]]]:
    """Return body and options of each message that is not ours."""
    tick = {"task": TASK_TICK, "id": "forged", "retries": 0, "argsrepr": "", "kwargsrepr": ""}
    run = {HEADER_WORK: {"portal": PORTAL, "run": "1@2/tracked", "attempt": 1, "step": 0, "last": True}}
    bomb = base64.b64encode(zlib.compress(b" " * (64 << 20))).decode()
    plain = {"serializer": "json"}
    return [
        (b"garbage", {"content_type": "application/octet-stream", "content_encoding": "binary", "headers": tick}),
        (b"{", {"content_type": "application/json", "content_encoding": "utf-8", "headers": tick}),
        (pickle.dumps(([], {}, {})), {"content_type": "application/x-python-serialize", "content_encoding": "binary"}),
        (zlib.compress(b" " * (64 << 20)), {**_binary(), "headers": {**tick, "compression": "application/x-gzip"}}),
        (bomb, {**plain, "headers": {**tick, "compression": "zlib"}}),
        ({}, plain),
        ([], {**plain, "headers": tick}),
        ([[], {}, {}], {**plain, "headers": {**tick, "task": ["a", "list"]}}),
        ([[], {}, {}], {**plain, "headers": {**tick, "task": "os.system"}}),
        ([[], {}, {}], {**plain, "headers": {**tick, "timelimit": ["soon", {}]}}),
        ([[], {}, {}], {**plain, "headers": {**tick, "eta": "soon"}}),
        ([[], {}, {}], {**plain, "headers": {**tick, "retries": "many", "id": {"a": 1}}}),
        ({"task": TASK_TICK, "id": "1", "args": [], "kwargs": {}, "callbacks": [{"task": "x"}]}, plain),
        *((forged(**{name: 1}), {**plain, "headers": tick}) for name in ("callbacks", "errbacks", "chain", "chord")),
        (forged(callbacks=1), {**plain, "headers": {**tick, "task": TASK_FAILED}}),
        (forged(chain=1), {**plain, "headers": {**tick, **run, "task": "b24offline.step.objects.fetch"}}),
        (forged(errbacks=1), {**plain, "headers": {**tick, **run, "task": "b24offline.step.objects.fetch"}}),
    ]


def _binary() -> dict[str, str]:
    return {"content_type": "application/json", "content_encoding": "binary"}


def victim_of(channel: Any) -> kombu.Queue:
    """Return the queue of the other stack, empty."""
    queue = kombu.Queue(VICTIM, kombu.Exchange(VICTIM), routing_key=VICTIM)(channel)
    queue.declare()
    queue.purge()
    return queue


def waiting(queue: kombu.Queue) -> int:
    """Return how many messages are in a queue; a Redis has none that is empty."""
    try:
        return int(queue.queue_declare(passive=True).message_count)
    except ChannelError:
        return 0


def garble(url: str) -> int:
    """Put texts that are no messages into our queues, where the broker is a Redis. Return how many."""
    if not url.startswith("redis"):
        return 0
    rows = [
        "garbage",
        "[]",
        "{}",
        "7",
        '{"properties": {}}',
        json.dumps({"properties": {"delivery_tag": "a"}}),
        "\ud83d",
    ]
    with Redis.from_url(url) as redis:
        for queue in (QUEUE_POLL, QUEUE_EVENTS, QUEUE_SETTLE):
            redis.lpush(queue, *(row.encode("utf-8", "surrogatepass") for row in rows), b"\xff\xfe")
    return 3 * (len(rows) + 1)


@fault(
    54,
    "garbage and forged messages",
    plan=Plan(variables={"B24_REMOTE_CONTROL": "false"}),
    repeats=None,
)
def forged_messages(stage: Stage) -> None:
    stage.settle_some()
    (worker,) = stage.workers
    before = worker.pid
    sent = garble(stage.broker.url)
    stage.noted("texts that are no messages in all queues")
    with kombu.Connection(stage.broker.url) as connection, connection.channel() as channel:
        victim = victim_of(channel)
        producer = connection.Producer(channel)
        for queue in (QUEUE_POLL, QUEUE_EVENTS, QUEUE_SETTLE):
            for body, options in messages():
                producer.publish(body, exchange="", routing_key=queue, **options)
                sent += 1
        stage.noted("forged messages in all queues")
        stranger = celery.Celery("stranger", broker=stage.broker.url)
        stranger.conf.control_exchange = "b24offline"
        stranger.control.broadcast("shutdown")
        stranger.control.broadcast("pool_shrink", arguments={"n": 2})
        stage.noted("a forged shutdown")
        stage.change(10)
        wait_until(stage.empty, "all is settled in spite of them", 120)
        published = waiting(victim)
    stage.expect(published == 0, f"{published} messages were sent to another stack")
    stage.expect(worker.alive and worker.pid == before, "the worker lives")
    stage.expect("Traceback" not in worker.log_tail(1 << 20), "no traceback in the log of the worker")
    refused = int(stage.redis.get(keys.refused_messages("b24offline")) or 0)
    stage.tell(f"{refused} of {sent} refused")
    stage.expect(refused >= sent - 3 * 6, f"refused are {refused} of {sent}")
    found = portal_status(stage.runtime.store, stage.runtime.redis, stage.runtime.config, stage.services.portal)
    stage.expect("broker_messages" in {issue.code for issue in found.issues}, "an issue says so")
