"""When reconciliations are asked for without a person: once a day, and after subscriptions had vanished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.ledger import RECONCILE, last_reconciled
from b24offline.reconciliation.history import is_due, since_ms
from b24offline.reconciliation.reconciler import Job

if TYPE_CHECKING:
    from b24offline.delivery import PortalContext
    from b24offline.events import Portal

BY_HAND: Final = "by hand"
DAILY: Final = "daily"
BLIND: Final = "subscriptions had vanished"
HOUR_MS: Final = 3_600_000
USUAL_HOURS: Final = 24.0
"""How far back a first reconciliation looks where the regular ones are switched off."""


class ReconcileSchedule:
    """Asks for the reconciliations of one portal.

    ``grace_seconds``: how long an event may take from change to run.
    """

    def __init__(self, portal: PortalContext, grace_seconds: float) -> None:
        self._redis = portal.redis
        self._ledger = portal.ledger
        self._requests = portal.requests
        self._hours = portal.config.reconcile_hours
        self._grace_seconds = grace_seconds
        self._sweep_seconds = portal.timers.sweep_seconds
        self._period_ms = round((self._hours or USUAL_HOURS) * HOUR_MS * portal.config.time_scale)

    def due_kinds(self, portal: Portal) -> set[str]:
        """Return the kinds of requests to work on now. Ask for the regular reconciliation when it is time."""
        due = self._requests.due_kinds()
        if RECONCILE not in due:
            self._ask_if_due(portal)
        return due

    def _ask_if_due(self, portal: Portal) -> None:
        if not self._hours or not portal.polled or portal.ledger_epoch is None:
            # Before the first poll nobody knows whether the portal is another deployment's.
            return
        now, last = self._ledger.now_ms(), last_reconciled(self._redis, self._ledger.stem)
        due = is_due(last, created_ms=_created_ms(portal), now_ms=now, period_ms=self._period_ms)
        if due and not self._requests.waiting(RECONCILE):
            self._requests.enqueue(RECONCILE, Job(DAILY, self.begin_ms(portal)).body())

    def begin_ms(self, portal: Portal) -> int:
        """Return where the regular one begins to look."""
        return since_ms(
            last_reconciled(self._redis, self._ledger.stem),
            created_ms=_created_ms(portal),
            now_ms=self._ledger.now_ms(),
            period_ms=self._period_ms,
            overlap_ms=round(self._grace_seconds * 1000),
        )

    def ask_after_gap(self, seen_ms: int) -> None:
        """Ask for all that changed, or was deleted, since the subscriptions were seen last.

        It begins when the grace is over, so that it also looks at what changed just before they were bound again.
        """
        if not self._hours:
            return
        job = Job(BLIND, seen_ms - round(self._grace_seconds * 1000), deleted=True)
        self._requests.enqueue(RECONCILE, job.body(), wait_seconds=self._grace_seconds + self._sweep_seconds)


def _created_ms(portal: Portal) -> int:
    return round(portal.created_at.timestamp() * 1000)
