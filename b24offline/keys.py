"""Every Redis key of the project. ``prefix`` is `B24_REDIS_KEY_PREFIX`, ``stem`` is that of one portal's keys (`stem`).

The scripts build the same keys in `scripts/prelude.lua`. What each key holds, and for how long, is in
`docs/architecture.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from b24offline.events import Event, ObjectKey

SubscriptionNote = Literal["", "fresh", "asked", "begun", "look"]


def stem(prefix: str, portal: str) -> str:
    """Return what all keys of one portal begin with; the braces keep them in one slot, for the scripts."""
    return f"{prefix}:{{{portal}}}"


def pattern(begin: str) -> str:
    """Return the pattern for SCAN of all keys below a prefix or a stem."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", begin) + ":*"


# -- of a deployment


def polls(prefix: str) -> str:
    """Return the sorted set of when each portal is polled next."""
    return f"{prefix}:polls"


def turn(prefix: str, what: str) -> str:
    """Return the key that says that something had its turn."""
    return f"{prefix}:turn:{what}"


# -- of a portal: the ledger


def due(stem: str) -> str:
    """Return the sorted set of runs and batches by due time."""
    return f"{stem}:due"


def batches(stem: str) -> str:
    """Return the sorted set of open batches by when they were opened."""
    return f"{stem}:batches"


def batch(stem: str, process_id: str) -> str:
    """Return the hash of a batch."""
    return f"{stem}:batch:{process_id}"


def records(stem: str, process_id: str) -> str:
    """Return the hash of what is left of a batch: record id -> JSON."""
    return f"{stem}:batch:{process_id}:records"


def run(stem: str, name: str) -> str:
    """Return the hash of a run."""
    return f"{stem}:run:{name}"


def object_queue(stem: str, event: Event, pipeline: str) -> str:
    """Return the list that serialises an object and a pipeline; a record without object has its own."""
    name = f"{event.object.entity}:{event.object.object_id}" if event.object else f"record:{event.record_id}"
    return f"{stem}:object_queue:{name}|{pipeline}"


def fencing(stem: str) -> str:
    """Return the hash of what must vanish together: epoch, schema, poll lease and in-doubt windows."""
    return f"{stem}:fencing"


def sightings(stem: str) -> str:
    """Return the hash of orphans: process id -> first seen."""
    return f"{stem}:sightings"


def nacked(stem: str) -> str:
    """Return the hash of nacked records: record id -> first seen."""
    return f"{stem}:nacked"


def stats(stem: str) -> str:
    """Return the hash of counters."""
    return f"{stem}:stats"


def lanes(stem: str) -> str:
    """Return the hash of when each lane is due."""
    return f"{stem}:lanes"


# -- of a portal: notes


def reserved(stem: str) -> str:
    """Return the number of reserved records in the last whole list."""
    return f"{stem}:reserved"


def unreadable(stem: str) -> str:
    """Return the number of reserved records that cannot be read."""
    return f"{stem}:unreadable"


def refused(stem: str) -> str:
    """Return the events that cannot be subscribed."""
    return f"{stem}:refused"


def alarms(stem: str) -> str:
    """Return the hash of issues that were logged."""
    return f"{stem}:alarms"


def reconciled(stem: str) -> str:
    """Return how the last reconciliation ended."""
    return f"{stem}:reconciled"


def bound(stem: str, note: SubscriptionNote = "") -> str:
    """Return what is subscribed, or a note about it."""
    return f"{stem}:bound:{note}" if note else f"{stem}:bound"


def unread(stem: str) -> str:
    """Return the key that says that no objects are read in bulk now."""
    return f"{stem}:unread"


def snapshot(stem: str, key: ObjectKey) -> str:
    """Return an object that was read in bulk."""
    return f"{stem}:snapshot:{key.entity}:{key.object_id}"


def requests(stem: str) -> str:
    """Return the hash of what commands ask for."""
    return f"{stem}:requests"


def request_lease(stem: str, kind: str) -> str:
    """Return the right to work on requests of a kind."""
    return f"{stem}:requests:{kind}"


def answer(stem: str, number: str) -> str:
    """Return what came of a request."""
    return f"{stem}:answer:{number}"


# -- of a portal: calls


def pace_bucket(prefix: str, portal: str) -> str:
    """Return the leaky bucket."""
    return f"{stem(prefix, portal)}:pace:bucket"


def pace_method(prefix: str, portal: str, method: str) -> str:
    """Return the pause of one method."""
    return f"{stem(prefix, portal)}:pace:method:{method.lower()}"


def pace_blocked(prefix: str, portal: str, *, polls: bool) -> str:
    """Return the key that says that nobody calls the portal; one for polls, one for all other calls."""
    return f"{stem(prefix, portal)}:pace:blocked{':polls' if polls else ''}"
