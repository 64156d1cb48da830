"""What the ledger shows that a person should know although no state of the portal says it. Calls no portal.

Every reserved record ends acknowledged, marked or adopted, and the age of the oldest one is bounded; what is older than
its bound is told here, until it is gone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.lanes import HELD_LANE, LOCAL_LANE, PARKED_LANE

if TYPE_CHECKING:
    from collections.abc import Collection

    from redis import Redis

    from b24offline.ledger import Ledger
    from b24offline.timers import Timers

OLD_SECONDS: Final = 3600.0
"""Retries, crashes and settling of an ordinary batch end long before; what waits longer waits for somebody."""
UNADOPTED_SECONDS: Final = 900.0
"""An orphan is adopted after 3 to 6 minutes when nothing hinders it."""
PARK_SLACK_SECONDS: Final = 2 * 86_400.0
"""After the age at which a held run is parked: it is parked when its wait, at most a day, is over."""
UNREADABLE_TTL_SECONDS: Final = 3600
"""How long a count of unreadable records stands without another look at the portal's list."""
REFUSED_TTL_SECONDS: Final = 2 * 86_400


@dataclass(frozen=True, slots=True)
class Signs:
    """Ages in seconds since the records were reserved, or first seen so; 0.0 where there are none.

    Attributes:
        oldest_seconds: of batches whose runs are new.
        oldest_held_seconds: of batches that hold records which failed before.
        orphans: reservations that no batch of ours knows.
        oldest_orphan_seconds: of those.
        unreadable: reserved records that nobody can acknowledge, as the last look at the portal's list counted them.
        refused: names of events that the portal did not let us subscribe.
    """

    oldest_seconds: float = 0.0
    oldest_held_seconds: float = 0.0
    orphans: int = 0
    oldest_orphan_seconds: float = 0.0
    unreadable: int = 0
    refused: tuple[str, ...] = ()

    @property
    def oldest_reserved_seconds(self) -> float:
        """The age of the oldest reservation, parked ones apart."""
        return max(self.oldest_seconds, self.oldest_held_seconds, self.oldest_orphan_seconds)


def signs_of(redis: Redis, ledger: Ledger) -> Signs:
    """What the ledger of one portal shows."""
    now = ledger.now_ms()
    new, held = [0.0], [0.0]
    with redis.pipeline(transaction=False) as pipe:
        for process_id in ledger.open_batches():
            pipe.hmget(f"{ledger.stem}:batch:{process_id}", ["lane", "first_seen", "redriven"])
        rows = pipe.execute()
    for lane, seen, redriven in rows:
        if seen and lane not in (PARKED_LANE, LOCAL_LANE):
            # A person who redrives a parked one gives it all its time again.
            (held if lane == HELD_LANE else new).append((now - int(redriven or seen)) / 1000)
    orphans = [(now - int(first)) / 1000 for first in redis.hvals(f"{ledger.stem}:sightings")]
    unreadable, refused = redis.mget(_unreadable(ledger), _refused(ledger))
    return Signs(
        oldest_seconds=max(new),
        oldest_held_seconds=max(held),
        orphans=len(orphans),
        oldest_orphan_seconds=max(orphans, default=0.0),
        unreadable=int(unreadable or 0),
        refused=tuple(json.loads(refused)) if refused else (),
    )


def complaints(signs: Signs, timers: Timers, *, looks: bool) -> tuple[str, ...]:
    """What an operator must be told, one sentence each. Pure.

    ``looks``: whether anybody looks for orphans now; else what is known of them is old.
    """
    found = []
    if signs.oldest_seconds > OLD_SECONDS:
        age = _span(signs.oldest_seconds)
        found.append(f"a batch is open for {age}: its steps wait or hang, or it cannot be settled; look at its log")
    if signs.oldest_held_seconds > timers.park_seconds + PARK_SLACK_SECONDS:
        found.append(f"a record is held for {_span(signs.oldest_held_seconds)} and is not parked: does the sweep run?")
    if looks and signs.oldest_orphan_seconds > UNADOPTED_SECONDS:
        age = _span(signs.oldest_orphan_seconds)
        found.append(f"{signs.orphans} reservations are nobody's, one for {age}: why are they not adopted?")
    if signs.unreadable:
        found.append(f"{signs.unreadable} reserved records cannot be read and stay until the portal deletes them")
    if signs.refused:
        found.append(f"the portal refuses to subscribe {', '.join(signs.refused)}: see the log for its words")
    return tuple(found)


def note_unreadable(redis: Redis, ledger: Ledger, count: int) -> None:
    """Notes how many reserved records could not be read in a whole list of them; 0 ends the complaint."""
    if count:
        redis.set(_unreadable(ledger), count, ex=UNREADABLE_TTL_SECONDS)
    else:
        redis.delete(_unreadable(ledger))


def note_refused(redis: Redis, ledger: Ledger, names: Collection[str]) -> None:
    """Notes which events could not be subscribed at the last look; none ends the complaint."""
    if names:
        redis.set(_refused(ledger), json.dumps(sorted(names)), ex=REFUSED_TTL_SECONDS)
    else:
        redis.delete(_refused(ledger))


def _unreadable(ledger: Ledger) -> str:
    return f"{ledger.stem}:unreadable"


def _refused(ledger: Ledger) -> str:
    return f"{ledger.stem}:refused"


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds < 2 * 86_400 else f"{seconds / 86_400:.1f} days"
