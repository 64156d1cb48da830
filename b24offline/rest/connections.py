"""HTTP connections that are bounded in time, for `requests`.

``requests`` limits the wait for each piece of an answer, not for the whole: a server that drips a byte a second would
block a worker for ever. Here the read timeout bounds everything from the last byte sent to the last byte read, headers
included, by shortening the socket's timeout before each read. A caller may be asked on the way, once, whether an answer
that is late is still waited for (`when_late`).

``urllib3`` gives each address of a host the whole connect timeout, and the look-up of its name none. Here one connect
timeout bounds name, addresses and TLS together: what takes longer is closed before anything is sent.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import WriteableBuffer
    from urllib3 import Retry


@dataclass(frozen=True, slots=True)
class Lateness:
    """After how many seconds an answer is late, and the function that says whether it is waited for all the same."""

    after_seconds: float
    waits: Callable[[], bool]


_lateness: ContextVar[Lateness | None] = ContextVar("b24offline_lateness", default=None)


@contextmanager
def when_late(lateness: Lateness | None) -> Iterator[None]:
    """Let the answers to requests of this block be late after a while; they end as if their time was over, or not."""
    token = _lateness.set(lateness)
    try:
        yield
    finally:
        _lateness.reset(token)


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket; the timeout of each read is the time left until the answer is late, or its time is over."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, allowed_seconds: float) -> None:
        super().__init__()
        began = time.monotonic()
        self._raw = raw
        self._sock = sock
        self._deadline = began + allowed_seconds
        self._lateness = _lateness.get()
        self._late_at = began + self._lateness.after_seconds if self._lateness else self._deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        if self._lateness is not None and self._late_at < self._deadline:
            try:
                return self._read(buffer, self._late_at)
            except TimeoutError:
                waits, self._lateness = self._lateness.waits, None
                if not waits():
                    raise
        return self._read(buffer, self._deadline)

    def _read(self, buffer: WriteableBuffer, until: float) -> int:
        left_seconds = until - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._sock.settimeout(left_seconds)
        # Not through the socket's file, which can read no more after one timeout.
        return self._sock.recv_into(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """A response read under one deadline: the socket's timeout at the moment the wait begins."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        allowed_seconds = sock.gettimeout()
        if allowed_seconds is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_DeadlineReader(raw, sock, allowed_seconds))


class _PlainConnection(HTTPConnection):
    """An http connection with bounded replies, opened within the connect timeout or not at all."""

    response_class = _DeadlineResponse
    _ends_at = 0.0

    def connect(self) -> None:
        allowed_seconds = float(self.timeout or 0)
        self._ends_at = time.monotonic() + allowed_seconds
        super().connect()
        if time.monotonic() > self._ends_at:
            self.close()
            raise ConnectTimeoutError(self, f"No connection in {allowed_seconds} s")
        self.sock.settimeout(allowed_seconds)

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers. Each address may take an equal part of the time left."""
        try:
            addresses = socket.getaddrinfo(self._dns_host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, "The host is no name") from error
        failure: OSError | None = None
        for number, (*_, address) in enumerate(addresses):
            left_seconds = self._ends_at - time.monotonic()
            if left_seconds <= 0:
                raise ConnectTimeoutError(self, "No address answered in time") from failure
            try:
                sock = create_connection(
                    (str(address[0]), self.port),
                    left_seconds / (len(addresses) - number),
                    socket_options=self.socket_options,
                )
            except OSError as error:
                failure = error
            else:
                # A TLS handshake takes the time left.
                sock.settimeout(max(0.001, self._ends_at - time.monotonic()))
                return sock
        raise NewConnectionError(self, "No address answered") from failure


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """An https connection, bounded the same way; a failed handshake counts as "not sent"."""

    def connect(self) -> None:
        try:
            super().connect()
        except (HTTPError, OSError) as error:  # ssl.SSLError is an OSError
            if isinstance(error, ConnectTimeoutError):
                raise
            raise NewConnectionError(self, f"no TLS connection: {type(error).__name__}") from error


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class DeadlineAdapter(HTTPAdapter):
    """The adapter of `requests` over connections with deadlines.

    A system would send a request again for a quarter of an hour that no packet of the other side confirms, also after
    the connection was closed: a portal that comes back would execute what was given up long ago.
    """

    def __init__(self, undelivered_seconds: float, max_retries: Retry) -> None:
        self._undelivered_ms = max(1, round(undelivered_seconds * 1000))
        super().__init__(max_retries=max_retries)

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        """Make the pool manager open connections with deadlines."""
        options = [*HTTPConnection.default_socket_options]
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux
            options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._undelivered_ms))
        super().init_poolmanager(*args, **kwargs, socket_options=options)  # type: ignore[arg-type]
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
