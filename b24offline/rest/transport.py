"""One HTTP exchange: bounded in time and size, never redirected, and honest about whether anything was sent.

``requests`` limits the wait for each piece of an answer, not for the whole: a server that drips a byte a
second would hold a worker for ever. Here the read timeout bounds everything from the last byte sent to the
last byte read, headers included, by shortening the socket's timeout before each read.

``urllib3`` gives each address of a host the whole connect timeout, and the look-up of its name none. Here one
connect timeout bounds name, addresses and TLS together: what takes longer is closed before anything is sent.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import json
import logging
import socket
import time
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family, create_connection

from b24offline.contract import VERSION
from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from _typeshed import WriteableBuffer

USER_AGENT: Final = f"b24offline/{VERSION}"
_PIECE_BYTES: Final = 65536


class NotSent(Exception):
    """Nothing left this machine; the text is a reason that is safe to log."""


class Lost(Exception):
    """The request was sent, perhaps in part, and no complete answer came; the text is safe to log."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back: the HTTP status, the decoded body, and the host a redirect names (``""`` if none)."""

    status: int
    content: bytes = field(repr=False)
    redirect_host: str


def make_session(ca_file: str | None = None, pool_size: int = 10) -> requests.Session:
    """Return a keep-alive session for one process, made after fork.

    TLS is verified against ``ca_file``, or against the bundled authorities when it is None. Proxies,
    ``.netrc`` and other settings of the environment are ignored, redirects are never followed and nothing
    is sent twice.
    """
    session = requests.Session()
    session.trust_env = False
    # A PHP session's cookie would make the portal run our requests one after the other.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.verify = ca_file if ca_file is not None else True
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
    adapter = _Adapter(pool_connections=pool_size, pool_maxsize=pool_size, max_retries=Retry(0, read=False))
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_without_query)
    return session


def checked_url(url: str, what: str) -> str:
    """Return the URL, or raise ConfigError unless it is https (http only for a loopback host) and plain.

    Plain means that it carries no user, query or fragment. ``what`` names the setting in the error.
    """
    example = "Use one like https://name.bitrix24.com/rest/."
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise ConfigError(f"The {what} is not an http address. {example}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(f"The {what} on host {host} carries a user, a query or a fragment. {example}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ConfigError(f"The {what} on host {host} is not https; tokens would travel readable. {example}")
    return url


def exchange(
    session: requests.Session,
    verb: str,
    url: str,
    *,
    connect_timeout_seconds: float,
    read_timeout_seconds: float,
    max_response_bytes: int,
    params: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> RawAnswer:
    """Send one request and read its whole answer; ``body`` is JSON.

    Raises NotSent when no connection came about within the connect timeout, Lost when one did and the answer is
    missing, incomplete, late or longer than ``max_response_bytes`` (counted after decompression).
    """
    request = requests.Request(
        verb,
        url,
        params=params,
        data=body,
        headers={"Content-Type": "application/json"} if body is not None else None,
    )
    timeout = (connect_timeout_seconds, read_timeout_seconds)
    try:
        prepared = session.prepare_request(request)
        with session.send(
            prepared, timeout=timeout, stream=True, allow_redirects=False, verify=session.verify
        ) as response:
            content = bytearray()
            for piece in response.iter_content(_PIECE_BYTES):
                content += piece
                if len(content) > max_response_bytes:
                    raise Lost(f"the answer is longer than {max_response_bytes} bytes")
            return RawAnswer(response.status_code, bytes(content), _redirect_host(response))
    except (requests.RequestException, HTTPError, OSError, http.client.HTTPException) as error:
        failure = _failure(error)
    # Raised out here because the library's errors print the URL, which may hold secrets, and would be its
    # context.
    raise failure


def parsed_json(content: bytes) -> object:
    """Return the JSON of a body, None when it is none (or nests too deep to be read)."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _redirect_host(response: requests.Response) -> str:
    """Return the host that a Location header names; never its path or query, which could carry a token."""
    try:
        return urlsplit(response.headers.get("Location", "")).hostname or ""
    except ValueError:
        return ""


def _failure(error: BaseException) -> NotSent | Lost:
    """Tell a connection that never came about from a lost answer; name the cause by its class only."""
    causes = [error]
    for cause in causes:
        inner = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        causes += [e for e in inner if isinstance(e, BaseException) and not any(e is c for c in causes)]
    for cause in causes:
        if isinstance(cause, ConnectTimeoutError):  # NewConnectionError and NameResolutionError among them
            return NotSent(type(cause).__name__)
    return Lost(type(causes[-1]).__name__)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _without_query(record: logging.LogRecord) -> bool:
    """Cut queries off the library's log lines: the token endpoint takes secrets in its query."""
    if isinstance(record.args, tuple):
        record.args = tuple(arg.split("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket's file with what is left of one allowance as the timeout of each read."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        left_seconds = self._deadline - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._sock.settimeout(left_seconds)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    """A response read under one allowance of time: the socket's timeout at the moment the wait begins."""

    def __init__(
        self, sock: socket.socket, debuglevel: int = 0, method: str | None = None, url: str | None = None
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        allowance_seconds = sock.gettimeout()
        if allowance_seconds is not None:
            raw = self.fp.detach()
            deadline = time.monotonic() + allowance_seconds
            self.fp = io.BufferedReader(_DeadlineReader(raw, sock, deadline))


class _PlainConnection(HTTPConnection):
    """An http connection with bounded answers, made within the connect timeout or not at all."""

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
        """Connect to the first address that answers. Each may take its part of the time left; dead ones leave some."""
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError as error:
            raise NewConnectionError(self, "The host is no name") from error
        failure: OSError | None = None
        for number, (*_, address) in enumerate(found):
            left_seconds = self._ends_at - time.monotonic()
            if left_seconds <= 0:
                raise ConnectTimeoutError(self, "No address answered in time") from failure
            try:
                sock = create_connection(
                    (str(address[0]), self.port),
                    left_seconds / (len(found) - number),
                    socket_options=self.socket_options,
                )
            except OSError as error:
                failure = error
            else:
                # A handshake takes what is left.
                sock.settimeout(max(0.001, self._ends_at - time.monotonic()))
                return sock
        raise NewConnectionError(self, "No address answered") from failure


class _TlsConnection(_PlainConnection, HTTPSConnection):
    """An https connection as bounded, whose failed handshake counts as "not sent"."""

    def connect(self) -> None:
        try:
            super().connect()
        except (HTTPError, OSError) as error:  # ssl.SSLError and a certificate's refusal are OSErrors
            if isinstance(error, ConnectTimeoutError):
                raise
            raise NewConnectionError(self, f"no TLS connection: {type(error).__name__}") from error


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    """The library's adapter over our connections."""

    def init_poolmanager(self, *args: object, **kwargs: object) -> None:
        super().init_poolmanager(*args, **kwargs)  # type: ignore[arg-type]
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
