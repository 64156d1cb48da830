"""A portal's client as the rest of the program uses it: rate limited, with a token that is refreshed.

The client repeats a request in one case only: once, after a refresh, when it was refused with an expired token. The
portal did not execute it, so that is safe for every method. Any other failure is raised, because only the caller knows
what a second attempt would do.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from b24offline.errors import (
    ExpiredToken,
    OperationTimeLimit,
    Overloaded,
    PortalError,
    QueryLimitExceeded,
    RateLimited,
)
from b24offline.rest.rate_limit import BLOCK_SECONDS, PortalBlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from b24offline.events import JSON
    from b24offline.rest.client import BatchAnswer, Command, RestClient
    from b24offline.rest.oauth import TokenSource
    from b24offline.rest.rate_limit import Kind, RateLimiter

_P = ParamSpec("_P")
_T = TypeVar("_T")
_SHORTEST_WAIT_SECONDS: Final = 0.001
_SLOW_DOWN_SECONDS: Final = 5.0
"""How long no process calls a portal after a 503."""


def retry_expired_token(block: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a function that uses a slot once more, from its start, when the portal refuses the token as expired.

    The second slot opens with a new token, and the function checks its preconditions again.
    """

    @wraps(block)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return block(*args, **kwargs)
        except ExpiredToken:
            return block(*args, **kwargs)

    return run


class Slot:
    """The right to send one request without further wait. It ends with the request, or with its block."""

    def __init__(self, send: Callable[[Mapping[str, object]], JSON]) -> None:
        self._send: Callable[[Mapping[str, object]], JSON] | None = send

    def __call__(self, params: Mapping[str, object]) -> JSON:
        """Send the request. Raise RuntimeError for a second one, or after the block."""
        send, self._send = self._send, None
        if send is None:
            raise RuntimeError("a slot is good for one request, inside its block; nothing was sent")
        return send(params)

    def close(self) -> None:
        """End the right, whether it was used or not."""
        self._send = None


class PortalClient:
    """One portal's client with rate limiter and tokens.

    A call sleeps (with ``sleep``) up to ``max_wait_seconds`` in all for its turn. After OVERLOAD_LIMIT no process calls
    the portal for ``block_seconds``.
    """

    def __init__(
        self,
        client: RestClient,
        tokens: TokenSource,
        rate_limiter: RateLimiter,
        portal: str,
        *,
        max_wait_seconds: float,
        block_seconds: float = BLOCK_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._rate_limiter = rate_limiter
        self._portal = portal
        self._max_wait_seconds = max_wait_seconds
        self._block_seconds = block_seconds
        self._sleep = sleep
        self._expired: str | None = None

    @contextmanager
    def slot(self, method: str, *, kind: Kind = "run") -> Iterator[Slot]:
        """Wait for a turn and a token; the block may then send one request of the method, with no further wait.

        Check the preconditions of the request (a lease, a fresh look) inside the block. When the portal refuses the
        token as expired, the block ends with ExpiredToken; `retry_expired_token` around it runs it once more.

        Raise RateLimited when the wait is too long (PortalBlocked after OVERLOAD_LIMIT), and whatever `TokenSource`
        and `RestClient.call` raise.
        """
        token = self._ready([method], kind)
        slot = Slot(lambda params: self._sent(token, lambda: self._client.call(method, params, token=token)))
        try:
            yield slot
        finally:
            slot.close()

    @retry_expired_token
    def call(self, method: str, params: Mapping[str, object] | None = None, *, kind: Kind = "run") -> JSON:
        """Call one method that has no precondition; return its result. Errors as in `slot`."""
        with self.slot(method, kind=kind) as send:
            return send(params or {})

    @retry_expired_token
    def batch(self, commands: Mapping[str, Command], *, kind: Kind = "run") -> BatchAnswer:
        """Call up to 50 methods in one request, which counts once; errors as in `slot`."""
        token = self._ready({"batch", *(command.method for command in commands.values())}, kind)
        answer = self._sent(token, lambda: self._client.batch(commands, token=token))
        for error in answer.errors.values():
            self._obey(error)
        return answer

    def _ready(self, methods: Iterable[str], kind: Kind) -> str:
        """Return an access token once the rate limiter has counted the request."""
        tokens = self._tokens.current(self._portal)
        if tokens.access == self._expired:
            tokens = self._tokens.refresh(self._portal, tokens.access)
        self._wait_for_turn(methods, kind)
        return tokens.access

    def _sent(self, token: str, send: Callable[[], _T]) -> _T:
        try:
            return send()
        except ExpiredToken:
            self._expired = token
            raise
        except PortalError as error:
            self._obey(error)
            raise

    def _wait_for_turn(self, methods: Iterable[str], kind: Kind) -> None:
        """Return when the rate limiter has counted this request; raise RateLimited when that takes too long."""
        left_seconds = self._max_wait_seconds
        while True:
            if blocked_seconds := self._rate_limiter.blocked(self._portal, kind):
                raise PortalBlocked(self._portal, blocked_seconds)
            pauses = (self._rate_limiter.method_pause(self._portal, method) for method in methods)
            wait_seconds = max(pauses, default=0.0) or self._rate_limiter.take(self._portal, kind)
            if not wait_seconds:
                return
            if wait_seconds > left_seconds:
                raise RateLimited(self._portal, wait_seconds)
            wait_seconds = max(wait_seconds, _SHORTEST_WAIT_SECONDS)
            self._sleep(wait_seconds)
            left_seconds -= wait_seconds

    def _obey(self, error: PortalError) -> None:
        """Slow down or block the portal, or pause a method, for all processes, if the error asks for it."""
        if isinstance(error, QueryLimitExceeded):
            self._rate_limiter.slow_down(self._portal, _SLOW_DOWN_SECONDS)
        elif isinstance(error, Overloaded):
            self._rate_limiter.block(self._portal, self._block_seconds)
        elif isinstance(error, OperationTimeLimit):
            self._rate_limiter.pause_method(self._portal, error.method, error.reset_at or 0.0)
