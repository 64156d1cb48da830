"""Every Redis key of the project. ``prefix`` is `B24_REDIS_KEY_PREFIX`, ``stem`` begins all keys of one portal.

`ledger/scripts/prelude.lua` builds the keys that only scripts use, and those they share with Python.
What each key holds, and for how long, is in `docs/architecture.md`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

SubscriptionNote = Literal["", "fresh", "asked", "begun", "look"]


def stem(prefix: str, portal: str) -> str:
    """Return what all keys of one portal begin with; the hash tag keeps them in one slot, for the scripts."""
    return f"{prefix}:{{{portal}}}"


def pattern(begin: str) -> str:
    """Return the pattern for SCAN of all keys below a prefix or a stem."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", begin) + ":*"


def _one(what: str) -> Callable[[str], str]:
    return lambda begin: f"{begin}:{what}"


def _each(what: str) -> Callable[[str, str], str]:
    return lambda begin, name: f"{begin}:{what}:{name}"


# -- of a deployment, below the prefix

polls = _one("polls")
"""Sorted set of portals by when they are polled next."""
once_per = _each("once")
"""Exists while the period of something that happens once per period lasts."""
sweep_asked = _one("sweep_asked")
"""Exists from when a command wants a sweep until the next tick."""

queued = _one("queued")
"""Hash of messages in the queue of polls: task and portal -> when it was sent; ``read``: the latest that was read."""
refused_messages = _one("refused_messages")
"""Number of messages of the broker that were refused; kept for a day after the last."""
webhook = _one("webhook")
"""List of issues that wait to be sent to the webhook, the oldest first."""
webhook_failed = _one("webhook:failed")
"""How often in a row it did not take one."""
webhook_wait = _one("webhook:wait")
"""Exists until it is tried again."""
webhook_dropped = _one("webhook:dropped")
"""How many issues did not fit into the list."""
suspects = _one("suspects")
"""Sorted set of calls that may last, as calls like them brought no answer, by the end of their lease."""
callers = _one("callers")
"""Sorted set of threads that call portals, by when they were counted last."""
refreshes = _each("refreshes")
"""Sorted set of the refreshes of tokens under way at an authorization server, by when they began."""
auth_silent = _each("auth_silent")
"""Exists while an authorization server has brought no answer lately."""
broker_full = _one("broker_full")
"""Why nothing is polled: what the broker has too much of, or too little. Exists as long as that was seen lately."""
broker_unseen = _one("broker_unseen")
"""Why the broker does not tell what waits in it; exists as long as it did not lately."""

# -- the ledger of a portal, below its stem

due = _one("due")
"""Sorted set of runs and batches by due time."""
batches = _one("batches")
"""Sorted set of open batches by when they were opened."""
open_counts = _one("open")
"""Hash of how many batches are open, all and for each gate."""
batch = _each("batch")
"""Hash of a batch, by its process id."""
run = _each("run")
"""Hash of a run."""
fencing = _one("fencing")
"""Hash of what must vanish together: epoch, schema, poll lease, in-doubt windows."""
orphans = _one("orphans")
"""Hash of orphans: process id -> first seen."""
look = _one("look")
"""Hash of the look at all reserved records: where it goes on, and when the last whole one ended."""
visits = _one("visits")
"""Hash of the sweeps' visits: when the ``last`` was, while nothing waited, and when each look was asked for;
``surplus``: when records were reserved that no batch has; ``seen``: how many were reserved; ``active``: when a visit
found more than the one before."""
nacked = _one("nacked")
"""Hash of nacked records: record id -> first seen."""
failures = _one("failures")
"""Hash of what is known of nacked records: record id -> JSON."""
stats = _one("stats")
"""Hash of counters, of a portal; below the prefix, of the deployment."""
lanes = _one("lanes")
"""Hash of when each lane is due."""
signals = _one("signals")
"""Hash of the portal's signals: ``heard``, when the last one came; ``missed``, when a poll found what none had told of;
``handler``, the address and the least pause that they are bound with."""


def records(stem: str, process_id: str) -> str:
    """Return the hash of what is left of a batch: record id -> JSON."""
    return f"{batch(stem, process_id)}:records"


def object_queue(stem: str, name: str, pipeline: str) -> str:
    """Return the list of the runs of an object and a pipeline. ``name``: see `Event.object_name`."""
    return f"{stem}:object_queue:{name}|{pipeline}"


# -- notes about a portal, below its stem

unreadable = _one("unreadable")
"""Number of reserved records that cannot be read."""
oversized = _one("oversized")
"""What a portal sent that was larger than it may be, in words."""
one_by_one = _one("one_by_one")
"""How many records are reserved by one call at most, as answers were too large."""
batch_sizes = _one("batch_sizes")
"""Hash of lanes -> how many records the next call asks for, where that is more than when little arrives."""
too_large = _one("too_large")
"""Set of reserved records that are larger than an answer may be."""
cached_bytes = _one("cached_bytes")
"""Bytes of objects that were cached lately."""
refused = _one("refused")
"""Events that cannot be subscribed."""
alarms = _one("alarms")
"""Hash of issues that were logged."""
reconciled = _one("reconciled")
"""How the last reconciliation ended."""
unread = _one("unread")
"""Exists while no objects are read in bulk."""
answered = _one("answered")
"""When the portal was last asked for an object and answered, and which object that was."""
full = _one("full")
"""Hash of lanes that have as many open batches as they may: lane -> since when."""
snapshot = _each("snapshot")
"""An object that was read in bulk, by `ObjectKey.name`."""
error = _each("error")
"""Words of the last error of a retrying run, encrypted."""
jobs = _one("jobs")
"""Hash of jobs that are not done: number -> JSON."""
job_lease = _each("jobs")
"""Lock of whoever works on jobs of a kind."""
answer = _each("answer")
"""Answer to a job, by its number."""


def bound(stem: str, note: SubscriptionNote = "") -> str:
    """Return the key of what is subscribed, or of a note about it."""
    return f"{stem}:bound:{note}" if note else f"{stem}:bound"


# -- calls to a portal

calls = _one("calls")
"""Hash of the calls in flight, of circuits, and of who was refused last; below the portal's stem."""


def rate_bucket(prefix: str, portal: str) -> str:
    """Return the key of the leaky bucket of calls."""
    return f"{stem(prefix, portal)}:rate:bucket"


def rate_method(prefix: str, portal: str, method: str) -> str:
    """Return the key of the pause of one method."""
    return f"{stem(prefix, portal)}:rate:method:{method.lower()}"


def rate_blocked(prefix: str, portal: str, *, polls: bool) -> str:
    """Return the key that says that no call is sent to the portal: one key for polls, one for all other calls."""
    return f"{stem(prefix, portal)}:rate:blocked{':polls' if polls else ''}"
