"""What a reconciliation covered, and how far back the next one has to look. Pure.

After the loss of the ledger the next reconciliation looks one whole period back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.ledger import Reconciled

if TYPE_CHECKING:
    from b24offline.reconciliation.reconciler import Job


def ended(job: Job, last: Reconciled | None, now_ms: int, begin_ms: int) -> Reconciled:
    """Return how a job ended. ``begin_ms``: where the next one would begin without it."""
    covered = covered_ms(last, begin_ms, job.since_ms, job.until_ms)
    whole = job.since_ms <= (begin_ms if last is None else last.covered_ms)
    regular = now_ms if whole else last.regular_ms if last else 0
    return Reconciled(now_ms, job.why, job.since_ms, covered, job.compared, job.missed, job.gone, regular)


def covered_ms(last: Reconciled | None, begin: int, since: int, until: int) -> int:
    """Return up to when everything was compared, after one that looked from ``since`` to ``until``.

    One that begins behind what was covered before leaves a gap, so it covers nothing more. ``begin``: where the first
    one has to begin to look.
    """
    before = begin if last is None else last.covered_ms
    return before if since > before else max(until, before)


def since_ms(last: Reconciled | None, *, created_ms: int, now_ms: int, period_ms: int, overlap_ms: int) -> int:
    """Return where the next one begins to look.

    The overlap allows for clocks that differ. Without a last one: a period back, but not before the portal was added.
    """
    if last is not None:
        return last.covered_ms - overlap_ms
    return max(created_ms, now_ms - period_ms)


def is_due(last: Reconciled | None, *, created_ms: int, now_ms: int, period_ms: int) -> bool:
    """Return whether a period has passed since one that left no gap."""
    return now_ms - (last.regular_ms if last and last.regular_ms else created_ms) >= period_ms
