"""Another Celery stack on the same broker: its own application, queue and settings; it does not import b24offline."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery
from redis import Redis

app = Celery("shop", broker=os.environ["SHOP_BROKER_URL"])
app.conf.update(
    task_default_queue="shop",
    task_acks_late=True,
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    imports=("tests.support.foreign_stack",),
)


@app.task(name="shop.announce")
def announce(what: dict[str, Any]) -> dict[str, Any]:
    """Keep the given object. Raise for objects whose id a test put into a set."""
    redis = _busy(what["object_id"])
    if redis.sismember("shop:refuse", str(what["object_id"])):
        raise ValueError("refused, as the test asked")
    redis.rpush("shop:announced", str(what["object_id"]))
    return what


@app.task(name="shop.stocktake")
def stocktake(number: int) -> None:
    """Count; only this stack has this task."""
    _busy(number).rpush("shop:counted", number)


def _busy(what: object) -> Redis:
    """Sleep as long as the test asks. Return the test's Redis."""
    redis = Redis.from_url(os.environ["SHOP_REDIS_URL"], decode_responses=True)
    redis.rpush("shop:began", str(what))
    time.sleep(float(redis.get("shop:slow") or 0))
    return redis
