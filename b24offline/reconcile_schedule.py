"""When reconciliations are asked for without a person: once a day, and after subscriptions had vanished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.reconciled import is_due, last_reconciled, since_ms
from b24offline.reconciliation import Job

if TYPE_CHECKING:
    from b24offline.runtime import PortalKit, Runtime

RECONCILE: Final = "reconcile"
"""Kind of a request for a reconciliation; its body is that of a `Job`."""
RUN: Final = "run"
"""Kind of a request to run one object."""
BY_HAND: Final = "by hand"
DAILY: Final = "daily"
BLIND: Final = "subscriptions had vanished"
HOUR_MS: Final = 3_600_000


def ask_daily(here: Runtime, kit: PortalKit) -> bool:
    """Asks for the regular reconciliation when its period has passed and none waits. Answers whether it did."""
    config = here.config
    if not config.reconcile_hours:
        return False
    now, last = kit.ledger.now_ms(), last_reconciled(here.redis, kit.ledger.stem)
    created = round(kit.portal.created_at.timestamp() * 1000)
    period = round(config.reconcile_hours * HOUR_MS * config.time_scale)
    if not is_due(last, created_ms=created, now_ms=now, period_ms=period) or kit.requests.waiting(RECONCILE):
        return False
    overlap = round(here.grace_seconds * 1000)
    since = since_ms(last, created_ms=created, now_ms=now, period_ms=period, overlap_ms=overlap)
    kit.requests.ask(RECONCILE, Job(DAILY, since).body())
    return True


def ask_after_blindness(here: Runtime, kit: PortalKit, seen_ms: int) -> None:
    """Asks for all that changed, or was deleted, since the subscriptions were seen last.

    It begins when the grace is over, so that it also looks at what changed just before they were bound again.
    """
    if not here.config.reconcile_hours:
        return
    grace = here.grace_seconds
    job = Job(BLIND, seen_ms - round(grace * 1000), deleted=True)
    kit.requests.ask(RECONCILE, job.body(), wait_seconds=grace + here.timers.sweep_seconds)
