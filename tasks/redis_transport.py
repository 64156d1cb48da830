"""Celery's transport for Redis, which drops what no library of Celery has put into a queue.

Kombu's own ends the worker with the first text that it cannot read.
"""

from __future__ import annotations

from queue import Empty
from typing import Any, Final

from kombu.transport import TRANSPORT_ALIASES, redis

from b24offline.tasks.consumer import count_refused

_TEXTS: Final = ("content-type", "content-encoding")


def is_message(raw: object) -> bool:
    """Return whether this is a message as kombu writes it."""
    if not isinstance(raw, dict) or not isinstance(properties := raw.get("properties"), dict):
        return False
    info = properties.get("delivery_info")
    return (
        isinstance(properties.get("delivery_tag"), str)
        and properties.get("body_encoding") in (None, "base64")
        and isinstance(info, dict)
        and all(isinstance(info.get(name), str) for name in ("exchange", "routing_key"))
        and isinstance(raw.get("headers"), dict | None)
        and isinstance(raw.get("body"), str | None)
        and all(isinstance(raw.get(name), str | None) for name in _TEXTS)
    )


class _CarefulChannel:
    """A channel that outlives a text that is no JSON, and the loss of its broker.

    Kombu makes a client for each message that is sent, read or acknowledged: a twentieth of the worker's CPU. Here one
    is kept for as long as its pool.
    """

    _kept_client: Any = None

    def close(self) -> None:
        """Close. A worker that lost its broker has no connection to put messages back; they come back by themselves."""
        if not self.closed and self.connection.client is None:  # type: ignore[attr-defined] # kombu has both
            self.do_restore = False
        super().close()  # type: ignore[misc] # kombu's channel has it

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:  # kombu keeps that one itself
            return super()._create_client(asynchronous=True)  # type: ignore[misc] # kombu's channel has it
        pool = self.pool  # type: ignore[attr-defined] # kombu's channel has it
        if self._kept_client is None or self._kept_client.connection_pool is not pool:
            self._kept_client = super()._create_client()  # type: ignore[misc] # kombu's channel has it
        return self._kept_client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # kombu's channel has it
        except (ValueError, RecursionError) as error:
            count_refused(type(error).__name__)
            raise Empty from None


class _CarefulTransport:
    """A transport that drops what has not the form of a message."""

    def _deliver(self, message: Any, queue: str | None) -> None:
        if is_message(message):
            super()._deliver(message, queue)  # type: ignore[misc] # kombu's transport has it
        else:
            count_refused("it is no message")


class Channel(_CarefulChannel, redis.Channel):
    """Of one server."""


class SentinelChannel(_CarefulChannel, redis.SentinelChannel):
    """Of the primary that Sentinels name."""


class Transport(_CarefulTransport, redis.Transport):
    """To one server."""

    Channel = Channel


class SentinelTransport(_CarefulTransport, redis.SentinelTransport):
    """To the primary that Sentinels name."""

    Channel = SentinelChannel


def use() -> None:
    """Let connections of this process to a Redis broker use it."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
    TRANSPORT_ALIASES["sentinel"] = f"{__name__}:SentinelTransport"
