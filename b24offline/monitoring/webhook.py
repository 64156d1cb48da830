"""The webhook of issues, for those without Prometheus: each that begins or is over is sent, signed, until it is taken.

What waits is kept in the ledger, and sent by the sweep that looks for alarms. A receiver may get one twice: its id is
the same then. All waits go to one address, so the first that is refused ends the turn, and the next turn waits longer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from b24offline import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis import Redis

    from b24offline.rest import Http

log = logging.getLogger(__name__)

MOST_WAITING: Final = 200
"""Issues that are kept while the webhook does not take them; of further ones only the number is sent."""
MOST_AT_ONCE: Final = 20
"""Issues sent in a turn, so at most so many a minute."""
TURN_SECONDS: Final = 20.0
"""A turn sends nothing more after so long: the sweep waits for it."""
FIRST_WAIT_SECONDS: Final = 60.0
LONGEST_WAIT_SECONDS: Final = 3600.0
KEPT_SECONDS: Final = 86_400.0
"""An issue that was not taken for so long is dropped: it is in `status` while it lasts."""
SIGNATURE: Final = "X-B24Offline-Signature"
TIMESTAMP: Final = "X-B24Offline-Timestamp"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return what the receiver compares: the HMAC-SHA256 of timestamp, a dot and the body, in hex behind ``v1=``."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def wait_seconds(failed: int) -> float:
    """Return how long to wait after so many failures in a row."""
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failed - 1, 10))  # more would overflow


class IssueWebhook:
    """Where issues are sent. ``clock`` gives epoch seconds; ``scale`` shortens the waits, for tests."""

    def __init__(
        self,
        redis: Redis,
        key_prefix: str,
        http: Http,
        url: str,
        secret: str,
        *,
        scale: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis, self._http, self._url, self._secret = redis, http, url, secret
        self._list, self._failed, self._wait, self._dropped = (
            key(key_prefix) for key in (keys.webhook, keys.webhook_failed, keys.webhook_wait, keys.webhook_dropped)
        )
        self._scale, self._clock = scale, clock

    def note(self, event: str, issue: Mapping[str, str]) -> None:
        """Keep an issue that is to be sent. ``event``: "begins" or "over"."""
        if int(self._redis.llen(self._list)) >= MOST_WAITING:
            self._redis.incr(self._dropped)
            return
        body = {"id": secrets.token_hex(16), "at": round(self._clock()), "event": event, **issue}
        self._redis.rpush(self._list, json.dumps(body))

    def send(self) -> int:
        """Send what waits, unless it is too early after a failure. Return how many were taken."""
        sent, ends = 0, time.monotonic() + TURN_SECONDS
        while sent < MOST_AT_ONCE and time.monotonic() < ends and not self._redis.exists(self._wait):
            text = self._redis.lindex(self._list, 0)
            if text is None:
                break
            body = json.loads(str(text))
            if self._clock() - body["at"] > KEPT_SECONDS * self._scale:
                log.error("issue not sent, the webhook takes none", extra={"code": body["code"]})
                self._redis.lrem(self._list, 1, str(text))
            elif self._is_taken(body):
                self._redis.lrem(self._list, 1, str(text))
                self._redis.delete(self._failed)
                sent += 1
        return sent

    def _is_taken(self, body: dict[str, Any]) -> bool:
        dropped = int(self._redis.getdel(self._dropped) or 0)
        why = self._post(json.dumps(body | ({"dropped": dropped} if dropped else {})).encode())
        if why:
            if dropped:
                self._redis.incrby(self._dropped, dropped)
            failed = int(self._redis.incr(self._failed))
            self._redis.set(self._wait, "1", px=max(1, round(wait_seconds(failed) * self._scale * 1000)))
            log.warning("the webhook did not take an issue", extra={"code": body["code"], "why": why})
        return not why

    def _post(self, body: bytes) -> str:
        """Send once; return why it was not taken, "" when it was."""
        timestamp = str(round(self._clock()))
        headers = {TIMESTAMP: timestamp, SIGNATURE: signature(self._secret, timestamp, body)}
        from b24offline.rest import Lost, NotSent, TooLarge  # noqa: PLC0415 - who shows portals needs no HTTP client

        try:
            status = self._http.exchange("POST", self._url, body=body, more_headers=headers).status
        except (NotSent, Lost, TooLarge) as error:
            return f"{type(error).__name__}: {error}"
        return "" if 200 <= status < 300 else f"status {status}"
