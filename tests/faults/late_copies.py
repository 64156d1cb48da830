"""Copies of all messages, kept until a row delivers them once more: long after what they were about is over.

Imported by the workers as a module of pipelines, though it has none.
"""

from __future__ import annotations

import json
import os
from typing import Any, Final

import kombu
from celery import signals
from redis import Redis

from b24offline.contract import QUEUES
from tests.faults import journal
from tests.faults.stage import Stage

MODULES: Final = "tests.faults.chains,tests.faults.late_copies"
"""What a row's workers import instead of the pipelines alone."""
_COPIES: Final = "copies"


def deliver(stage: Stage) -> int:
    """Send every message again that the workers have sent so far. Return how many."""
    kept = Redis.from_url(stage.variables[journal.VARIABLE], decode_responses=True)
    copies = [json.loads(text) for text in kept.lrange(_COPIES, 0, -1)]
    with kombu.Connection(stage.broker.url) as connection, connection.Producer(serializer="json") as producer:
        for copy in copies:
            producer.publish(**copy)
    return len(copies)


@signals.after_task_publish.connect
def _keep(sender: Any = None, headers: Any = None, body: Any = None, **reply: Any) -> None:
    if reply["routing_key"] not in QUEUES or journal.VARIABLE not in os.environ:
        return
    copy = {
        "body": body,
        "headers": headers,
        "exchange": reply["exchange"],
        "routing_key": reply["routing_key"],
        "correlation_id": headers["id"],
    }
    Redis.from_url(os.environ[journal.VARIABLE]).rpush(_COPIES, json.dumps(copy))
