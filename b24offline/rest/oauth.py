"""Access tokens: read from the store, and refreshed once for all workers when the portal refuses one as expired.

Two checks keep processes from using one refresh token twice:

1. a claim in the store, taken by compare and set and timed by the store's clock, not by a worker's; a process that does
   not get it waits for the new pair;
2. the pair's version: a pair is stored, or an authorization recorded as lost, only while the version it was made from
   is current.

A new pair is stored before it is used, since the old refresh token may be invalid by then. While the authorization
server does not answer few processes ask it, and none waits for another one's answer.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from b24offline.errors import (
    AuthLost,
    EndpointMismatch,
    MemberMismatch,
    PortalError,
    RateLimited,
    StoreUnavailable,
)
from b24offline.events import Portal, RefreshWait, Tokens
from b24offline.failpoints import failpoint
from b24offline.rest.error_mapping import TOKEN_METHOD
from b24offline.rest.token_endpoint import Client, token_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from b24offline.rest.auth_servers import AuthServers
    from b24offline.rest.transport import Http

_log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.05
_LONGEST_POLL_SECONDS: Final = 0.8
"""Upper limit of the growing interval at which waiting workers look for the new pair in the store."""
_PATIENCE_SECONDS: Final = 5.0
"""How long a worker waits for another one's refresh before it gives up its slot."""
_SAVE_SECONDS: Final = 10.0
_SAVE_RETRY_SECONDS: Final = 0.25
_RETRY_SECONDS: Final = 15.0
_LONGEST_ADDRESS: Final = 500
"""Characters of an endpoint in a reply that are kept."""
_MARGIN_SECONDS: Final = _SAVE_SECONDS + 2.0
"""Time for storing the pair after the reply."""


class TokenStore(Protocol):
    """Where pairs are kept, for all workers at once.

    Its methods raise UnknownPortal, WrongKey, and StoreUnavailable while the database does not answer.
    """

    def portal(self, name: str) -> Portal:
        """Return the portal with its client and authorization address."""

    def get(self, name: str) -> Tokens:
        """Return the pair."""

    def save(
        self,
        name: str,
        tokens: Tokens,
        expected_version: int,
        *,
        member_id: str | None = None,
        named_endpoint: str | None = None,
    ) -> bool:
        """Store a pair if that version is current; return whether it was. Raise MemberMismatch.

        With another ``named_endpoint`` than a person has confirmed, the pair is stored as one that nobody may use.
        """

    def claim_refresh(self, name: str, version: int, seconds: float) -> bool:
        """Claim the refresh of this version for so long; return False when it is claimed already or must wait."""

    def delay_refresh(self, name: str, version: int, seconds: float) -> None:
        """Release the claim after a failure, and refuse new claims for so long."""

    def refuse_refresh(self, name: str, version: int, reason: str, *, actor: str) -> bool:
        """Record that this version's refresh token was refused, if it is current; return whether it was."""

    def refresh_wait(self, name: str) -> RefreshWait:
        """Return how long a refresh must wait."""


class TokenSource:
    """The tokens of all portals, for one process; safe for its threads.

    A claim ends when no request can be under way any more. After a failed refresh no process tries again for
    ``_RETRY_SECONDS``. ``servers`` None: as many ask as want to. ``sleep`` waits.
    """

    def __init__(
        self,
        store: TokenStore,
        http: Http,
        *,
        servers: AuthServers | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._servers = servers
        self._http = http
        self._claim_seconds = http.connect_timeout_seconds + http.read_timeout_seconds + _MARGIN_SECONDS
        self._sleep = sleep
        self._cache: dict[str, Tokens] = {}

    def current(self, portal: str) -> Tokens:
        """Return the pair to call with, perhaps an expired one; without an access token yet, refresh first.

        Errors as in `refresh`.
        """
        tokens = self._cache.get(portal)
        if tokens is None:
            tokens = self._stored(portal)
            if not tokens.access:
                return self.refresh(portal, "")
            self._cache[portal] = tokens
        return tokens

    def version_used(self, portal: str) -> int | None:
        """Return the version of the pair that this process calls with, None when it has none in its cache."""
        tokens = self._cache.get(portal)
        return tokens.version if tokens else None

    def forget(self, portal: str) -> None:
        """Drop the cached pair, so that the next call reads it from the store, as after a new authorization."""
        self._cache.pop(portal, None)

    def refresh(self, portal: str, stale_access_token: str) -> Tokens:
        """Return a pair whose access token is not the stale one; ask the authorization server only if necessary.

        Raise AuthLost (it becomes the portal's state, and a refused refresh token is not tried again), another error
        of the authorization server, MemberMismatch when another account answers, and RateLimited when another
        process's refresh takes too long or has just failed. UnknownPortal and WrongKey come from the store.
        """
        self._cache[portal] = tokens = self._refreshed(portal, stale_access_token)
        return tokens

    def _stored(self, name: str) -> Tokens:
        """Return the pair in the store. Raise EndpointMismatch while nobody may use it."""
        tokens = self._store.get(name)
        if tokens.moved:
            raise EndpointMismatch(tokens.moved)
        return tokens

    def _refreshed(self, name: str, stale_access_token: str) -> Tokens:
        """Refresh under a claim in the store, or wait a little for the process that has it.

        Begin again when another pair, as of a new authorization, is stored meanwhile.
        """
        give_up, pause_seconds = time.monotonic() + _PATIENCE_SECONDS, _POLL_SECONDS
        while True:
            tokens = self._stored(name)
            if tokens.access and tokens.access != stale_access_token:
                return tokens
            if tokens.refused:
                raise AuthLost(name, TOKEN_METHOD, None, "", "the refresh token is not tried again")
            portal = self._store.portal(name)
            if not tokens.refresh:
                self._give_up(portal, tokens, AuthLost(name, TOKEN_METHOD, None, "", "no refresh token is stored"))
                continue
            wait = self._store.refresh_wait(name)
            if not wait.seconds and self._store.claim_refresh(name, tokens.version, self._claim_seconds):
                if pair := self._exchanged(portal, tokens):
                    return pair
                continue
            if wait.failed or (wait.seconds and (time.monotonic() >= give_up or self._is_silent(portal))):
                raise RateLimited(name, wait.seconds)
            self._sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_POLL_SECONDS)

    def _exchanged(self, portal: Portal, tokens: Tokens) -> Tokens | None:
        """Exchange the refresh token for a new pair and store it; the claim is ours.

        Return None when another pair was stored meanwhile.
        """
        try:
            body = self._reply(portal, tokens)
        except RateLimited as put_off:
            self._store.delay_refresh(portal.name, tokens.version, put_off.wait_seconds)
            raise
        if isinstance(body, AuthLost):
            self._give_up(portal, tokens, body)
            return None
        if isinstance(body, PortalError):
            self._store.delay_refresh(portal.name, tokens.version, _RETRY_SECONDS)
            raise body
        pair = Tokens(str(body["access_token"]), str(body["refresh_token"]), tokens.version + 1)
        member = body.get("member_id")
        try:
            named = _named_endpoint(body, portal)
            saved = self._save(portal.name, pair, member if isinstance(member, str) and member else None, named)
        except MemberMismatch as error:
            self._give_up(portal, tokens, error)
            return None
        failpoint("tokens.saved")
        if not saved:
            _log.warning("another pair of tokens was stored during a refresh", extra={"portal": portal.name})
            return None
        _log.info("access token refreshed", extra={"portal": portal.name, "token_version": pair.version})
        # Begin again: where it names another endpoint, the pair must not be used, and reading it says so.
        return pair if named is None else None

    def _reply(self, portal: Portal, tokens: Tokens) -> Mapping[str, object] | PortalError:
        """Ask the authorization server; return the body with the pair, or the error. Raise RateLimited if put off."""
        client = Client(portal.client_id, portal.client_secret, portal.auth_url)
        grant = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
        request = partial(token_answer, self._http, portal.name, client, **grant)
        return self._servers.ask(portal.name, portal.auth_url, request) if self._servers else request()

    def _is_silent(self, portal: Portal) -> bool:
        return self._servers is not None and self._servers.is_silent(portal.auth_url)

    def _save(self, name: str, pair: Tokens, member_id: str | None, named_endpoint: str | None = None) -> bool:
        """Store a pair, with retries: if it is lost, an administrator has to authorize again."""
        give_up = time.monotonic() + _SAVE_SECONDS
        while True:
            try:
                return self._store.save(
                    name, pair, pair.version - 1, member_id=member_id, named_endpoint=named_endpoint
                )
            except StoreUnavailable as error:
                if time.monotonic() >= give_up:
                    raise
                _log.error(
                    "a new pair of tokens cannot be stored, trying again",
                    extra={"portal": name, "why": str(error)},
                )
            self._sleep(_SAVE_RETRY_SECONDS)

    def _give_up(self, portal: Portal, tokens: Tokens, error: AuthLost | MemberMismatch) -> None:
        """Record that the refresh token is refused, and raise, unless another pair was stored meanwhile."""
        why = str(error)
        if self._store.refuse_refresh(portal.name, tokens.version, why, actor=error.actor):
            self._cache.pop(portal.name, None)
            _log.error("authorization lost", extra={"portal": portal.name, "why": why})
            raise error


def _named_endpoint(body: Mapping[str, object], portal: Portal) -> str | None:
    """Return the endpoint that the reply names if it is another one than the portal's. It never fails on what it finds.

    It is never called: a forged one would receive the tokens.
    """
    named = body.get("client_endpoint")
    if not isinstance(named, str) or not named.strip():
        return None
    address = named.strip()[:_LONGEST_ADDRESS]
    return None if _plain(address) == _plain(portal.client_endpoint) else address


def _plain(address: str) -> str:
    """Return an address as it compares: scheme and host in lower case, no slash at the end."""
    scheme, _, rest = address.rstrip("/").partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{host.lower()}{slash}{path}"
