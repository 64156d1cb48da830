"""When reconciliations are asked for without a person: once a day, and after subscriptions had vanished."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.reconciled import is_due, last_reconciled, since_ms
from b24offline.reconciliation import Job

if TYPE_CHECKING:
    from b24offline.runtime import Runtime
    from b24offline.services import PortalKit

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
    if not here.config.reconcile_hours:
        return False
    now, last = kit.ledger.now_ms(), last_reconciled(here.redis, kit.ledger.stem)
    due = is_due(last, created_ms=_created_ms(kit), now_ms=now, period_ms=_period_ms(here))
    if not due or kit.requests.waiting(RECONCILE):
        return False
    kit.requests.ask(RECONCILE, Job(DAILY, begin_ms(here, kit)).body())
    return True


def begin_ms(here: Runtime, kit: PortalKit) -> int:
    """Where the regular one begins to look."""
    return since_ms(
        last_reconciled(here.redis, kit.ledger.stem),
        created_ms=_created_ms(kit),
        now_ms=kit.ledger.now_ms(),
        period_ms=_period_ms(here),
        overlap_ms=round(here.grace_seconds * 1000),
    )


def _created_ms(kit: PortalKit) -> int:
    return round(kit.portal.created_at.timestamp() * 1000)


def _period_ms(here: Runtime) -> int:
    return round((here.config.reconcile_hours or 24) * HOUR_MS * here.config.time_scale)


def ask_after_blindness(here: Runtime, kit: PortalKit, seen_ms: int) -> None:
    """Asks for all that changed, or was deleted, since the subscriptions were seen last.

    It begins when the grace is over, so that it also looks at what changed just before they were bound again.
    """
    if not here.config.reconcile_hours:
        return
    grace = here.grace_seconds
    job = Job(BLIND, seen_ms - round(grace * 1000), deleted=True)
    kit.requests.ask(RECONCILE, job.body(), wait_seconds=grace + here.timers.sweep_seconds)
