"""What commands and the machinery ask the workers to do for one portal: kept in the ledger until it is done.

A request is a small JSON object that its worker may rewrite as it gets on, so that another worker continues after a
death. Commands start no Celery: they put a request here, the next sweep finds it, and the answer waits for a day.
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
    """The requests of one portal."""

    def __init__(self, redis: Redis, ledger: Ledger) -> None:
        self._redis = redis
        self._ledger = ledger
        self._key = keys.jobs(ledger.stem)

    def enqueue(self, kind: str, body: Mapping[str, Any], *, wait_seconds: float = 0.0) -> str:
        """Put a request down, to be looked at after the wait. Return its number."""
        now = self._ledger.now_ms()
        number = f"{now}-{secrets.token_hex(4)}"
        self.save(number, {**body, "kind": kind, "not_before_ms": now + round(wait_seconds * 1000)})
        return number

    def save(self, number: str, body: Mapping[str, Any]) -> None:
        """Keep what has become of a request so far."""
        self._redis.hset(self._key, number, json.dumps(body, separators=(",", ":")))

    def waiting(self, kind: str) -> dict[str, Body]:
        """Number -> request of that kind, the oldest first; those that are not due yet, too."""
        rows = {str(number): json.loads(text) for number, text in self._redis.hgetall(self._key).items()}
        return {number: rows[number] for number in sorted(rows) if rows[number]["kind"] == kind}

    def due(self, kind: str) -> dict[str, Body]:
        """As `waiting`, those that may be begun now."""
        waiting = self.waiting(kind)
        now = self._ledger.now_ms() if waiting else 0
        return {number: body for number, body in waiting.items() if body["not_before_ms"] <= now}

    def due_kinds(self) -> set[str]:
        """Return the kinds of requests that may be begun now. One command where none waits, as each sweep asks."""
        waiting = [json.loads(text) for text in self._redis.hvals(self._key)]
        now = self._ledger.now_ms() if waiting else 0
        return {body["kind"] for body in waiting if body["not_before_ms"] <= now}

    def complete(self, number: str, answer: Mapping[str, Any]) -> None:
        """End a request; its answer waits for who asked."""
        self._redis.set(self._answer_key(number), json.dumps(answer), ex=ANSWER_SECONDS)
        self._redis.hdel(self._key, number)

    def answer(self, number: str) -> Body | None:
        """Return the answer to a request; None while it is not done."""
        text = self._redis.get(self._answer_key(number))
        return None if text is None else json.loads(text)

    def progress(self, number: str) -> Body | None:
        """Return a request that is still open, as its worker kept it."""
        text = self._redis.hget(self._key, number)
        return None if text is None else json.loads(text)

    def oldest_seconds(self, kind: str) -> float:
        """For how long the oldest request of that kind has been waiting; 0.0 without one."""
        asked = [int(number.partition("-")[0]) for number in self.waiting(kind)]
        return max(0.0, (self._ledger.now_ms() - min(asked)) / 1000) if asked else 0.0

    def lease(self, kind: str, seconds: float) -> Lock:
        """Return the right to work on requests of a kind, for one worker at a time. Without waiting: `acquire`
        tells."""
        lock: Lock = self._redis.lock(keys.job_lease(self._ledger.stem, kind), timeout=seconds, blocking=False)
        return lock

    def _answer_key(self, number: str) -> str:
        return keys.answer(self._ledger.stem, number)
