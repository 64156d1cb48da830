"""How many messages are taken: of everybody, of each portal, and of senders that have proved nothing. Pure.

A portal that has proved itself lately is not held up by a flood of forged messages, not even of ones in its name.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ALL_PER_SECOND: Final = 200.0
PORTAL_PER_SECOND: Final = 5.0
"""A portal sends one signal in `B24_PUSH_MIN_TIMEOUT_SECONDS`, and news about the application now and then."""
UNPROVED_PER_MINUTE: Final = 60.0
"""Each may cost a look into the store."""
CALLS_PER_MINUTE: Final = 30.0
"""Messages that have proved nothing, and cost a call to the authorization server or to a portal."""
MAX_KNOWN: Final = 20_000
"""Portals that are remembered to have proved themselves."""


class Bucket:
    """So many at once, filled again at a rate per second."""

    def __init__(self, size: float, per_second: float) -> None:
        self._size, self._rate = size, per_second
        self._left, self._at = size, 0.0

    def take(self, now: float) -> bool:
        """Return whether there was one left at ``now``, a time of a monotonic clock."""
        self._left = min(self._size, self._left + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Limits:
    """The limits of one process; used by many threads. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._all = Bucket(ALL_PER_SECOND, ALL_PER_SECOND)
        self._unproved = Bucket(UNPROVED_PER_MINUTE, UNPROVED_PER_MINUTE / 60)
        self._calls = Bucket(CALLS_PER_MINUTE, CALLS_PER_MINUTE / 60)
        self._known: OrderedDict[bytes, Bucket] = OrderedDict()

    def take(self) -> bool:
        """Return whether a message of anybody is taken."""
        with self._lock:
            return self._all.take(self._clock())

    def take_from(self, member_id: str, application_token: str) -> bool:
        """Return whether a message in the name of an account is looked at.

        One with the token that has proved itself lately counts for that portal, any other one for those that have
        proved nothing.
        """
        sender = _digest(member_id, application_token)
        with self._lock:
            if sender in self._known:
                self._known.move_to_end(sender)
            return self._known.get(sender, self._unproved).take(self._clock())

    def take_call(self) -> bool:
        """Return whether a message that has proved nothing may cost a call."""
        with self._lock:
            return self._calls.take(self._clock())

    def note_proved(self, member_id: str, application_token: str) -> None:
        """Remember that a portal has proved itself with this token."""
        sender = _digest(member_id, application_token)
        with self._lock:
            if sender not in self._known:
                self._known[sender] = Bucket(2 * PORTAL_PER_SECOND, PORTAL_PER_SECOND)
            self._known.move_to_end(sender)
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)


def _digest(member_id: str, application_token: str) -> bytes:
    return hashlib.sha256(f"{member_id} {application_token}".encode()).digest()
