"""Jobs that commands and workers enqueue for one portal: kept in the ledger until they are done.

A job is a small JSON object that its worker may save as it gets on, so that another worker continues after a crash.
Commands start no Celery: they enqueue a job, the next sweep finds it, and its answer is kept for a day.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis import Redis
    from redis.lock import Lock

    from b24offline.ledger.ledger import Ledger

ANSWER_SECONDS: Final = 86_400
RECONCILE: Final = "reconcile"
"""Kind of a request for a reconciliation."""
RUN: Final = "run"
"""Kind of a request to run one object."""

Body = dict[str, Any]


class JobQueue:
    """The jobs of one portal."""

    def __init__(self, redis: Redis, ledger: Ledger) -> None:
        self._redis = redis
        self._ledger = ledger
        self._key = keys.jobs(ledger.stem)

    def enqueue(self, kind: str, body: Mapping[str, Any], *, wait_seconds: float = 0.0) -> str:
        """Add a job, due after the wait. Return its number."""
        now = self._ledger.now_ms()
        number = f"{now}-{secrets.token_hex(4)}"
        self.save(number, {**body, "kind": kind, "not_before_ms": now + round(wait_seconds * 1000)})
        return number

    def save(self, number: str, body: Mapping[str, Any]) -> None:
        """Store how far a job has got."""
        self._redis.hset(self._key, number, json.dumps(body, separators=(",", ":")))

    def waiting(self, kind: str) -> dict[str, Body]:
        """Return number -> job of that kind, the oldest first; those that are not due yet, too."""
        rows = {str(number): json.loads(text) for number, text in self._redis.hgetall(self._key).items()}
        return {number: rows[number] for number in sorted(rows) if rows[number]["kind"] == kind}

    def due(self, kind: str) -> dict[str, Body]:
        """As `waiting`, only those that are due."""
        waiting = self.waiting(kind)
        now = self._ledger.now_ms() if waiting else 0
        return {number: body for number, body in waiting.items() if body["not_before_ms"] <= now}

    def due_kinds(self) -> set[str]:
        """Return the kinds of jobs that are due; one command where none waits, as each sweep asks."""
        waiting = [json.loads(text) for text in self._redis.hvals(self._key)]
        now = self._ledger.now_ms() if waiting else 0
        return {body["kind"] for body in waiting if body["not_before_ms"] <= now}

    def complete(self, number: str, answer: Mapping[str, Any]) -> None:
        """End a job; its answer is kept for whoever enqueued it."""
        self._redis.set(self._answer_key(number), json.dumps(answer), ex=ANSWER_SECONDS)
        self._redis.hdel(self._key, number)

    def answer(self, number: str) -> Body | None:
        """Return the answer to a job; None while it is not done."""
        text = self._redis.get(self._answer_key(number))
        return None if text is None else json.loads(text)

    def progress(self, number: str) -> Body | None:
        """Return a job that is not done, as its worker saved it last."""
        text = self._redis.hget(self._key, number)
        return None if text is None else json.loads(text)

    def lease(self, kind: str, seconds: float) -> Lock:
        """Return the lock of the one worker that works on jobs of a kind; `acquire` does not wait for it."""
        lock: Lock = self._redis.lock(keys.job_lease(self._ledger.stem, kind), timeout=seconds, blocking=False)
        return lock

    def _answer_key(self, number: str) -> str:
        return keys.answer(self._ledger.stem, number)
