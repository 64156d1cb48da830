"""How the last reconciliation of a portal ended, and how far back the next one has to look.

Kept in the ledger; after its loss the next reconciliation looks one whole period back.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from b24offline import keys

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.reconciliation.reconciler import Job


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One reconciliation that ended; times in milliseconds of the ledger's clock.

    Attributes:
        at_ms: when it ended.
        why: "daily", "by hand" or what made it necessary.
        since_ms: where it began to look.
        covered_ms: everything that changed before was compared, by this one or by those before it.
        compared: objects looked at.
        missed: changes whose events never came; they were injected.
        gone: objects of the mirror that the portal has no more; they were injected, too.
        regular_ms: when the last one ended that left no gap before it: the next regular one is due a period later.
    """

    at_ms: int
    why: str
    since_ms: int
    covered_ms: int
    compared: int
    missed: int
    gone: int
    regular_ms: int = 0


def last_reconciled(redis: Redis, stem: str) -> Reconciled | None:
    """Return how the last one ended; None when the ledger knows of none. ``stem``: that of the portal's keys."""
    text = redis.get(keys.reconciled(stem))
    return None if text is None else Reconciled(**json.loads(text))


def summary(last: Reconciled) -> str:
    """Return the last one in a line, for people. Pure."""
    ended = datetime.fromtimestamp(last.at_ms / 1000, UTC)
    return f"{ended:%Y-%m-%d %H:%M:%S} UTC, {last.why}: {last.compared} compared, {last.missed + last.gone} missed"


def note_reconciled(redis: Redis, stem: str, job: Job, now_ms: int, begin_ms: int) -> Reconciled:
    """Keep how a job ended. ``begin_ms``: where the next one would begin without it."""
    last = last_reconciled(redis, stem)
    covered = covered_ms(last, begin_ms, job.since_ms, job.until_ms)
    whole = job.since_ms <= (begin_ms if last is None else last.covered_ms)
    regular = now_ms if whole else last.regular_ms if last else 0
    reply = Reconciled(now_ms, job.why, job.since_ms, covered, job.compared, job.missed, job.gone, regular)
    redis.set(keys.reconciled(stem), json.dumps(asdict(reply)))
    return reply


def covered_ms(last: Reconciled | None, begin: int, since: int, until: int) -> int:
    """Up to when everything was compared, after one that looked from ``since`` to ``until``. Pure.

    One that begins behind what was covered before leaves a gap, so it covers nothing more. ``begin``: where the first
    one has to begin to look.
    """
    before = begin if last is None else last.covered_ms
    return before if since > before else max(until, before)


def since_ms(last: Reconciled | None, *, created_ms: int, now_ms: int, period_ms: int, overlap_ms: int) -> int:
    """Where the next one begins to look. Pure.

    The overlap allows for clocks that differ. Without a last one: a period back, but not before the portal was added.
    """
    if last is not None:
        return last.covered_ms - overlap_ms
    return max(created_ms, now_ms - period_ms)


def is_due(last: Reconciled | None, *, created_ms: int, now_ms: int, period_ms: int) -> bool:
    """Return whether a period has passed since one that left no gap. Pure."""
    return now_ms - (last.regular_ms if last and last.regular_ms else created_ms) >= period_ms
