"""A portal's client as the rest of the program uses it: rate limited, with a token that is refreshed.

The client repeats a request in one case only: once, after a refresh, when it was refused with an expired token. The
portal did not execute it, so that is safe for every method. Any other failure is raised, because only the caller knows
what a second attempt would do.
"""

from __future__ import annotations

import logging
import random
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from redis.exceptions import RedisError

from b24offline.errors import (
    ExpiredToken,
    OperationTimeLimit,
    Overloaded,
    PortalError,
    QueryLimitExceeded,
    RateLimited,
)
from b24offline.rest.call_slots import GIVEN_UP, NotAnswering, Request
from b24offline.rest.circuit import OPENS_AT, may_be_given_up, only_reads, silence_of
from b24offline.rest.connections import Lateness, when_late
from b24offline.rest.rate_limit import BLOCK_SECONDS, NOT_WAITED, PortalBlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from b24offline.events import JSON
    from b24offline.rest.call_slots import CallSlot
    from b24offline.rest.client import BatchAnswer, Command, RestClient
    from b24offline.rest.oauth import TokenSource
    from b24offline.rest.rate_limit import Kind, RateLimiter, Turn

log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")
_SHORTEST_WAIT_SECONDS: Final = 0.001
_LONGEST_NAP_SECONDS: Final = 1.0
"""The longest single wait for the rate limit that a call sleeps out, where one request costs less: a slot and a worker
are held meanwhile. Longer ones come after a 503, or while settling has used its share."""
_FIRST_LOOK_SECONDS: Final = 0.05
_LONGEST_LOOK_SECONDS: Final = 0.4
"""How often a call looks for a slot while those that have one are answered quickly."""
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

    A call sleeps (with ``sleep``) up to ``max_wait_seconds`` in all for its turn: for the rate limit, and for a slot as
    long as the calls before it are answered quickly. After OVERLOAD_LIMIT no process calls the portal for
    ``block_seconds``.
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
        with self._turn([method], kind) as turn:
            slot = Slot(lambda params: turn.send(lambda client, token: client.call(method, params, token=token)))
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
    def batch(self, commands: Mapping[str, Command], *, kind: Kind = "run", waits: bool = True) -> BatchAnswer:
        """Call up to 50 methods in one request, which counts once; errors as in `slot`.

        ``waits``: False for a caller that can come back as well, so that it holds no worker when there is no slot.
        """
        methods = {"batch", *(command.method for command in commands.values())}
        with self._turn(methods, kind, waits=waits) as turn:
            answer = turn.send(lambda client, token: client.batch(commands, token=token))
        for error in answer.errors.values():
            self._obey(error)
        return answer

    @contextmanager
    def _turn(self, methods: Collection[str], kind: Kind, *, waits: bool = True) -> Iterator[_Turn]:
        """Yield once a token is at hand, a slot taken, and the request counted. The slot ends with the block."""
        tokens = self._tokens.current(self._portal)
        if tokens.access == self._expired:
            tokens = self._tokens.refresh(self._portal, tokens.access)
        slots = self._rate_limiter.slots
        slot = slots.new(self._portal, methods, kind)
        call = _Turn(self, tokens.access, slot, may_be_given_up(methods))
        try:
            turn = self._wait_for_turn(methods, kind, slot, waits=waits)
            call.late_seconds = turn.late_seconds
            if only_reads(methods):
                call.patience_seconds = turn.patience_seconds
            yield call
        finally:
            # A slot that cannot be given back expires; what the call brought must not be lost with it.
            with suppress(RedisError):
                self._note(slot, slots.give_back(slot, call.silence, call.cut_off_seconds, call.request))

    def _wait_for_turn(self, methods: Collection[str], kind: Kind, slot: CallSlot, *, waits: bool) -> Turn:
        """Return the limiter's reply when the call has its slot, its place if it is suspect, and was counted; raise
        RateLimited when that takes too long."""
        limiter = self._rate_limiter
        left_seconds, look_seconds = self._max_wait_seconds, _FIRST_LOOK_SECONDS
        waited = NOT_WAITED
        longest_nap = max(_LONGEST_NAP_SECONDS, limiter.shortest_nap_seconds)
        while True:
            nap, waits = min(left_seconds, longest_nap), waits and look_seconds <= left_seconds
            turn = limiter.take(self._portal, kind, methods, slot, nap_seconds=nap, waits=waits, waited=waited)
            if turn.suspect and not slot.shared and not limiter.slots.share(slot):
                turn = limiter.take(self._portal, kind, methods, slot, crowded=True)
            if turn.why == "go":
                return turn
            wait_seconds = max(turn.wait_seconds, _SHORTEST_WAIT_SECONDS)
            if turn.why == "full" and waits:
                wait_seconds, look_seconds = look_seconds, min(2 * look_seconds, _LONGEST_LOOK_SECONDS)
            elif turn.why != "rate":
                limiter.slots.forget(slot)
                raise self._refusal(turn)
            elif wait_seconds > left_seconds:
                raise RateLimited(self._portal, wait_seconds)
            self._sleep(wait_seconds)
            left_seconds -= wait_seconds
            if turn.why == "rate":
                waited = replace(waited, rate_seconds=waited.rate_seconds + wait_seconds)
            else:
                waited = replace(waited, slot_seconds=waited.slot_seconds + wait_seconds)

    def _refusal(self, turn: Turn) -> RateLimited:
        if turn.why == "blocked":
            return PortalBlocked(self._portal, turn.wait_seconds)
        if turn.why == "paused":
            return RateLimited(self._portal, turn.wait_seconds)
        kind = NotAnswering if turn.why == "silent" else RateLimited
        # Many are refused at once, and are not to come back at once.
        return kind(self._portal, turn.wait_seconds * random.uniform(1, 1.25))

    def _note(self, slot: CallSlot, change: str) -> None:
        if change == "opened":
            log.warning("calls suspended, no answer", extra={"portal": self._portal, "calls": slot.circuit})
        elif change == "closed":
            log.info("calls are answered", extra={"portal": self._portal, "calls": slot.circuit})

    def _obey(self, error: PortalError) -> None:
        """Slow down or block the portal, or pause a method, for all processes, if the error asks for it."""
        if isinstance(error, QueryLimitExceeded):
            self._rate_limiter.slow_down(self._portal, _SLOW_DOWN_SECONDS)
        elif isinstance(error, Overloaded):
            self._rate_limiter.block(self._portal, self._block_seconds)
        elif isinstance(error, OperationTimeLimit):
            self._rate_limiter.pause_method(self._portal, error.method, error.reset_at or 0.0)


class _Turn:
    """A call whose turn it is.

    Attributes:
        patience_seconds: how long it waits for its answer; None: as long as any call.
        late_seconds: after how long it needs one of the places that calls to silent portals share, or is given up.
        silence: what it counts for, see `silence_of`; None while nothing was sent.
        cut_off_seconds: the patience, where it ended the call.
        request: how it ended; None while nothing was sent.
    """

    def __init__(self, client: PortalClient, token: str, slot: CallSlot, may_be_given_up: bool) -> None:
        self._client = client
        self._token = token
        self._slot = slot
        self._may_be_given_up = may_be_given_up
        self._given_up = False
        self.patience_seconds: float | None = None
        self.late_seconds = 0.0
        self.silence: int | None = None
        self.cut_off_seconds = 0.0
        self.request: Request | None = None

    def send(self, send: Callable[[RestClient, str], _T]) -> _T:
        """Send the request; note what its answer, or the lack of it, means for the next calls."""
        rules, client = self._client._rate_limiter.slots.rules, self._client._client
        long_seconds = rules.long_seconds
        if self.patience_seconds is not None:
            client, long_seconds = client.within(self.patience_seconds), min(long_seconds, self.patience_seconds)
        # One that is suspect has its place.
        late = None if self._slot.shared else Lateness(self.late_seconds, self._waits_though_late)
        began = time.monotonic()
        try:
            with when_late(late):
                reply = send(client, self._token)
        except PortalError as error:
            self.request = Request(type(error).__name__, time.monotonic() - began)
            self.silence = silence_of(error, self.request.seconds, long_seconds, rules.slow_seconds)
            if self.silence and self._given_up:
                self.silence = GIVEN_UP
            if self.silence == OPENS_AT:
                self.cut_off_seconds = self.patience_seconds or 0.0
            if isinstance(error, ExpiredToken):
                self._client._expired = self._token
            self._client._obey(error)
            raise
        self.silence = 0
        self.request = Request("answered", time.monotonic() - began)
        return reply

    def _waits_though_late(self) -> bool:
        """Return whether the answer is waited for: the call found a shared place, or its end would not be known."""
        try:
            found = self._client._rate_limiter.slots.share(self._slot, anyway=not self._may_be_given_up)
        except RedisError:
            found = True  # the places are a bound, not a lock
        self._given_up = not found
        return found
