"""What is decided about a portal that does not answer: which calls are judged together, and what silence means. Pure.

A circuit opens after calls that brought no answer. While it is open nothing is sent; then one call at a time tries, and
the first answer, whatever it says, closes it. The calls of the offline queue have a circuit each: a portal that still
hands out records may hang in everything else, and each reservation would close what the other calls have opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.errors import UnknownAnswer, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.errors import PortalError

OPENS_AT: Final = 3
"""Silent calls after which a circuit opens; one that used up its time counts as so many."""
_EVENTS: Final = "event."
_OTHERS: Final = "others"
_ACKNOWLEDGING: Final = ".clear"


@dataclass(frozen=True, slots=True)
class CallRules:
    """Bounds of the calls of each portal.

    Attributes:
        in_flight: calls under way at once, over all workers. Runs use two less, so that a poll and a settle have one.
        long_seconds: a call without an answer for so long has used up its time.
        patience_seconds: how long a call that only reads waits for its answer at first. Each that is cut off doubles it
            for a day, so that a slow portal is read in the end, and one that begins to hang holds workers for less.
        lease_seconds: a slot whose owner is silent for so long is free again.
        slow_seconds: while a call is under way for longer, nobody waits for a slot, but comes back later.
        late_seconds: a call is late after so long, or after twice the longest answer of the last day to calls like it,
            and then counts among the calls to silent portals.
        rest_seconds: how long an open circuit rests before one call tries, after the first silence and the next ones.
    """

    in_flight: int = 4
    long_seconds: float = 60.0
    patience_seconds: float = 15.0
    lease_seconds: float = 15.0
    slow_seconds: float = 2.0
    late_seconds: float = 5.0
    rest_seconds: tuple[float, ...] = (15.0, 30.0, 60.0)


def circuit_of(methods: Iterable[str]) -> str:
    """Return the name of the circuit of a call, or of a batch of calls."""
    names = set(methods)
    return names.pop() if len(names) == 1 and next(iter(names)).startswith(_EVENTS) else _OTHERS


def only_reads(methods: Iterable[str]) -> bool:
    """Return whether a call changes nothing, by its name, so that it may be given up and made again."""
    named = (name for name in methods if name != "batch")
    return all(name.endswith(".list" if name.startswith(_EVENTS) else (".get", ".list")) for name in named)


def may_be_given_up(methods: Iterable[str]) -> bool:
    """Return whether nothing is lost with a call of which nobody waits for the answer: it reads, or is repeated.

    To acknowledge by record ids again is harmless, and what a settle does after an unknown answer.
    """
    named = set(methods)
    acknowledges = all(name.startswith(_EVENTS) and name.endswith(_ACKNOWLEDGING) for name in named)
    return acknowledges or only_reads(named)


def silence_of(error: PortalError, seconds: float, long_seconds: float, slow_seconds: float) -> int:
    """Return how many silent calls a failed one counts for, that took so long; 0 when the portal answered anything.

    Nor is an answer that was cut off at once silence: it may be that of one object, and it holds no worker. One that
    took ``long_seconds`` has used up its time, one below ``slow_seconds`` was quick.
    """
    if error.status is not None or not isinstance(error, UnknownAnswer | Unreachable):
        return 0
    if seconds >= long_seconds:
        return OPENS_AT
    return 0 if isinstance(error, UnknownAnswer) and seconds < slow_seconds else 1
