"""One HTTP exchange: bounded in time and size, never redirected, and exact about whether anything was sent."""

from __future__ import annotations

import http.client
import logging
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import requests
from urllib3 import Retry
from urllib3.exceptions import ConnectTimeoutError, HTTPError

from b24offline.config import web_address
from b24offline.contract import VERSION
from b24offline.errors import ConfigError
from b24offline.rest.bodies import TooLarge
from b24offline.rest.connections import DeadlineAdapter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

USER_AGENT: Final = f"b24offline/{VERSION}"
_PIECE_BYTES: Final = 65536


class NotSent(Exception):
    """Nothing was sent; the text is a reason that is safe to log."""


class Lost(Exception):
    """The request was sent, perhaps in part, and no complete reply came; the text is safe to log."""


@dataclass(frozen=True)
class RawAnswer:
    """What came back: the HTTP status, the decoded body, and the host a redirect names (``""`` if none)."""

    status: int
    content: bytes = field(repr=False)
    redirect_host: str


def make_session(ca_file: str | None = None, *, undelivered_seconds: float = 65.0) -> requests.Session:
    """Return a keep-alive session for one process, made after fork.

    TLS is verified against ``ca_file``, or against the bundled authorities when it is None. Proxies,
    ``.netrc`` and other settings of the environment are ignored, redirects are never followed and nothing
    is sent twice. What the other side has not confirmed to have received after ``undelivered_seconds`` never arrives,
    also when the process that sent it has given up or is dead.
    """
    session = requests.Session()
    session.trust_env = False
    # A PHP session's cookie would make the portal run our requests one after the other.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.verify = ca_file if ca_file is not None else True
    session.headers.update({"User-Agent": USER_AGENT, "Accept": "application/json"})
    adapter = DeadlineAdapter(undelivered_seconds, max_retries=Retry(0, read=False))
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_without_query)
    return session


def checked_url(url: str, what: str) -> str:
    """Return the URL, or raise ConfigError unless it is https (http only for a loopback host) and plain.

    Plain means that it carries no user, query or fragment. ``what`` names the setting in the error.
    """
    try:
        web_address(url)
    except ValueError as error:
        raise ConfigError(f"The {what} {error}. Use one like https://name.bitrix24.com/rest/.") from None
    return url


@dataclass(frozen=True)
class Http:
    """A session of one process, with the bounds of each exchange; an answer's bytes are counted when decompressed.

    Over plain http nothing is sent, unless ``loopback_http`` says that an emulator on this machine may be called. Over
    https only ``auth_hosts`` get a client secret or a refresh token.
    """

    session: requests.Session
    connect_timeout_seconds: float
    read_timeout_seconds: float
    max_response_bytes: int
    loopback_http: bool = False
    auth_hosts: Collection[str] = ()

    def exchange(
        self,
        verb: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        more_headers: Mapping[str, str] | None = None,
    ) -> RawAnswer:
        """Send one request and read its whole answer; ``body`` is JSON.

        Raise NotSent when no connection was opened within the connect timeout, Lost when one was and the reply is
        missing, incomplete or late (the read timeout bounds the whole of it), TooLarge when it is too long.
        """
        if not (url.startswith("https:") or self.loopback_http):
            raise NotSent("plain http, and B24_LOOPBACK_HTTP is not set")
        headers = {**({"Content-Type": "application/json"} if body is not None else {}), **(more_headers or {})}
        request = requests.Request(verb, url, params=params, data=body, headers=headers)
        timeout = (self.connect_timeout_seconds, self.read_timeout_seconds)
        try:
            prepared = self.session.prepare_request(request)
            with self.session.send(
                prepared, timeout=timeout, stream=True, allow_redirects=False, verify=self.session.verify
            ) as response:
                content = bytearray()
                for piece in response.iter_content(_PIECE_BYTES):
                    content += piece
                    if len(content) > self.max_response_bytes:
                        raise TooLarge(f"the answer is longer than {self.max_response_bytes} bytes")
                return RawAnswer(response.status_code, bytes(content), _redirect_host(response))
        except (requests.RequestException, HTTPError, OSError, http.client.HTTPException) as error:
            failure = _failure(error)
        # Raised outside the handler: the library's errors print the URL, which may hold secrets, and would be its
        # context.
        raise failure


def _redirect_host(response: requests.Response) -> str:
    """Return the host that a Location header names; never its path or query, which could carry a token."""
    try:
        return urlsplit(response.headers.get("Location", "")).hostname or ""
    except ValueError:
        return ""


def _failure(error: BaseException) -> NotSent | Lost:
    """Return NotSent for a connection that was never opened, Lost otherwise; name the cause by its class only."""
    causes = [error]
    for cause in causes:
        inner = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        causes += [e for e in inner if isinstance(e, BaseException) and not any(e is c for c in causes)]
    for cause in causes:
        if isinstance(cause, ConnectTimeoutError):  # NewConnectionError and NameResolutionError among them
            return NotSent(type(cause).__name__)
    return Lost(type(causes[-1]).__name__)


def _without_query(record: logging.LogRecord) -> bool:
    """Remove queries from the library's log lines: the token endpoint takes secrets in its query."""
    if isinstance(record.args, tuple):
        record.args = tuple(arg.split("?")[0] if isinstance(arg, str) else arg for arg in record.args)
    return True
