"""When a draining portal is done: nothing of it is open, and no call that could open something is under way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from b24offline.portal import Portal
    from b24offline.services import PortalKit


def drained(kit: PortalKit, portal: Portal, patience_seconds: float) -> bool:
    """Whether nothing is left to settle. Parked events are: they may wait for a person for ever.

    A poll that was asked for just before the operator's wish takes its lease a moment later, so the wish must be
    ``patience_seconds`` old.
    """
    age_seconds = (datetime.now(UTC) - portal.wish_since).total_seconds()
    if age_seconds < patience_seconds or kit.guard.poll_lease_left_seconds() > 0:
        return False
    return not kit.ledger.working_batches()
