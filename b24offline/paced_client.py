"""A portal's client as the rest of the program uses it: at the shared pace, with a token that is refreshed.

Only one thing is ever repeated here: a call refused with an expired token, once, after a refresh. The
portal did not execute it, so that is safe for every method. Whatever else fails is raised, because only the
caller knows what a second attempt would do.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from b24offline.errors import (
    ExpiredToken,
    OperationTimeLimit,
    Overloaded,
    PaceExceeded,
    PortalError,
    QueryLimitExceeded,
)
from b24offline.rate_limit import BLOCK_SECONDS, PortalBlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from b24offline.oauth import TokenSource
    from b24offline.offline_queue import Params
    from b24offline.rate_limit import Kind, Pace
    from b24offline.rest import Answer, BatchAnswer, Command, PortalClient

__all__ = ["PaceExceeded", "PacedClient"]

_T = TypeVar("_T")
_SHORTEST_WAIT_SECONDS: Final = 0.001


class PacedClient:
    """One portal's client with pace and tokens.

    A call sleeps (with ``sleep``) up to ``max_wait_seconds`` in all for its turn. After a 503 nobody calls
    the portal for ``slow_down_seconds``, after OVERLOAD_LIMIT for ``block_seconds``.
    """

    def __init__(
        self,
        client: PortalClient,
        tokens: TokenSource,
        pace: Pace,
        portal: str,
        *,
        max_wait_seconds: float,
        slow_down_seconds: float = 5.0,
        block_seconds: float = BLOCK_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._tokens = tokens
        self._pace = pace
        self._portal = portal
        self._max_wait_seconds = max_wait_seconds
        self._slow_down_seconds = slow_down_seconds
        self._block_seconds = block_seconds
        self._sleep = sleep

    def call(self, method: str, params: Params = None, *, kind: Kind = "run") -> Answer:
        """Call one method. Parameters that are a function are made when its turn has come, right before it is sent.

        Between the wish and the sending may lie a wait and a refresh of the token. What that function raises ends the
        call; nothing was sent then.

        Raises PaceExceeded when its turn is too far off (PortalBlocked after OVERLOAD_LIMIT), else what
        `PortalClient.call` and `TokenSource` raise.
        """
        return self._send([method], kind, lambda token: self._client.call(method, _made(params), token=token))

    def batch(self, commands: Mapping[str, Command], *, kind: Kind = "run", halt: bool = False) -> BatchAnswer:
        """Call up to 50 methods in one request, which counts once; errors as in `call`."""
        methods = {"batch", *(command.method for command in commands.values())}
        answer = self._send(methods, kind, lambda token: self._client.batch(commands, token=token, halt=halt))
        for error in answer.errors.values():
            self._heed(error)
        return answer

    def _send(self, methods: Iterable[str], kind: Kind, send: Callable[[str], _T]) -> _T:
        """Send in turn, and once more after a refresh if the token has expired."""
        tokens = self._tokens.current(self._portal)
        try:
            return self._attempt(methods, kind, send, tokens.access)
        except ExpiredToken:
            pass
        tokens = self._tokens.refresh(self._portal, tokens.access)
        return self._attempt(methods, kind, send, tokens.access)

    def _attempt(self, methods: Iterable[str], kind: Kind, send: Callable[[str], _T], token: str) -> _T:
        self._wait_for_turn(methods, kind)
        try:
            return send(token)
        except PortalError as error:
            self._heed(error)
            raise

    def _wait_for_turn(self, methods: Iterable[str], kind: Kind) -> None:
        """Return when the pace has counted this request; raise PaceExceeded when that takes too long."""
        left_seconds = self._max_wait_seconds
        while True:
            if blocked_seconds := self._pace.blocked(self._portal, kind):
                raise PortalBlocked(self._portal, blocked_seconds)
            wait_seconds = max((self._pace.method_pause(self._portal, m) for m in methods), default=0.0)
            wait_seconds = wait_seconds or self._pace.take(self._portal, kind)
            if not wait_seconds:
                return
            if wait_seconds > left_seconds:
                raise PaceExceeded(self._portal, wait_seconds)
            wait_seconds = max(wait_seconds, _SHORTEST_WAIT_SECONDS)
            self._sleep(wait_seconds)
            left_seconds -= wait_seconds

    def _heed(self, error: PortalError) -> None:
        """Slow or block the portal, or pause a method, for everybody, if that is what an error asks for."""
        if isinstance(error, QueryLimitExceeded):
            self._pace.slow_down(self._portal, self._slow_down_seconds)
        elif isinstance(error, Overloaded):
            self._pace.block(self._portal, self._block_seconds)
        elif isinstance(error, OperationTimeLimit):
            self._pace.pause_method(self._portal, error.method, error.reset_at or 0.0)


def _made(params: Params) -> Mapping[str, object] | None:
    return params() if callable(params) else params
