"""Every Redis key of the project. ``prefix`` is `B24_REDIS_KEY_PREFIX`, ``stem`` begins all keys of one portal.

`ledger/scripts/prelude.lua` builds the keys that only scripts use, and those they share with Python.
What each key holds, and for how long, is in `docs/architecture.md`.
"""

from __future__ import annotations

import re
from typing import Literal

SubscriptionNote = Literal["", "fresh", "asked", "begun", "look"]


def stem(prefix: str, portal: str) -> str:
    """Return what all keys of one portal begin with; the hash tag keeps them in one slot, for the scripts."""
    return f"{prefix}:{{{portal}}}"


def pattern(begin: str) -> str:
    """Return the pattern for SCAN of all keys below a prefix or a stem."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", begin) + ":*"


# -- of a deployment


def polls(prefix: str) -> str:
    """Return the sorted set of portals by when they are polled next."""
    return f"{prefix}:polls"


def once_per(prefix: str, what: str) -> str:
    """Return the key that exists while the period of something that happens once per period lasts."""
    return f"{prefix}:once:{what}"


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


def object_queue(stem: str, name: str, pipeline: str) -> str:
    """Return the list of the runs of an object and a pipeline. ``name``: see `Event.object_name`."""
    return f"{stem}:object_queue:{name}|{pipeline}"


def fencing(stem: str) -> str:
    """Return the hash of what must vanish together: epoch, schema, poll lease, in-doubt windows."""
    return f"{stem}:fencing"


def orphans(stem: str) -> str:
    """Return the hash of orphans: process id -> first seen."""
    return f"{stem}:orphans"


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
    """Return the key of the number of reserved records in the last whole list."""
    return f"{stem}:reserved"


def unreadable(stem: str) -> str:
    """Return the key of the number of reserved records that cannot be read."""
    return f"{stem}:unreadable"


def refused(stem: str) -> str:
    """Return the key of the events that cannot be subscribed."""
    return f"{stem}:refused"


def alarms(stem: str) -> str:
    """Return the hash of issues that were logged."""
    return f"{stem}:alarms"


def reconciled(stem: str) -> str:
    """Return the key of how the last reconciliation ended."""
    return f"{stem}:reconciled"


def bound(stem: str, note: SubscriptionNote = "") -> str:
    """Return the key of what is subscribed, or of a note about it."""
    return f"{stem}:bound:{note}" if note else f"{stem}:bound"


def unread(stem: str) -> str:
    """Return the key that exists while no objects are read in bulk."""
    return f"{stem}:unread"


def snapshot(stem: str, name: str) -> str:
    """Return the key of an object that was read in bulk. ``name``: see `ObjectKey.name`."""
    return f"{stem}:snapshot:{name}"


def jobs(stem: str) -> str:
    """Return the hash of jobs that are not done: number -> JSON."""
    return f"{stem}:jobs"


def job_lease(stem: str, kind: str) -> str:
    """Return the lock of whoever works on jobs of a kind."""
    return f"{stem}:jobs:{kind}"


def answer(stem: str, number: str) -> str:
    """Return the key of the answer to a job."""
    return f"{stem}:answer:{number}"


# -- of a portal: calls


def rate_bucket(prefix: str, portal: str) -> str:
    """Return the key of the leaky bucket of calls."""
    return f"{stem(prefix, portal)}:rate:bucket"


def rate_method(prefix: str, portal: str, method: str) -> str:
    """Return the key of the pause of one method."""
    return f"{stem(prefix, portal)}:rate:method:{method.lower()}"


def rate_blocked(prefix: str, portal: str, *, polls: bool) -> str:
    """Return the key that says that no call is sent to the portal: one key for polls, one for all other calls."""
    return f"{stem(prefix, portal)}:rate:blocked{':polls' if polls else ''}"
