"""Whether somebody else takes records from our queue of a portal. Two deployments on one connector take each other's.

The portal does not tell who reserved a record. But what this deployment reserves is in its ledger from before it is
dispatched until it has left the portal. So a reservation that the ledger does not know, and that comes or goes while we
look, is another one's; one that only stays may also be what a crash left, until it is adopted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.doctor.check import Check, failed, ok, skipped, warning
from b24offline.events import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.delivery import PortalServices
    from b24offline.events import Portal

LOOKS: Final = 3
PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Look:
    """Process ids under which the portal lists reserved records, and those of them that the ledger does not know.

    ``unclear``: a poll of ours was under way, whose reservation may not be in the ledger yet.
    """

    reserved: frozenset[str]
    unknown: frozenset[str]
    unclear: bool = False


def looks_at(services: PortalServices, seconds: float) -> list[Look]:
    """Look several times, for as long as that. Raise the `PortalError` or `RateLimited` of a call."""
    deadline, looks = time.monotonic() + seconds, [_look(services)]
    while len(looks) < LOOKS or time.monotonic() < deadline:
        time.sleep(PAUSE_SECONDS)
        looks.append(_look(services))
    return looks


def _look(services: PortalServices) -> Look:
    polling = services.fencing.poll_lease_left_seconds() > 0
    reserved = frozenset(row.process_id for row in services.queue.reserved() if isinstance(row, Record))
    unknown = reserved - set(services.ledger.open_batches())
    return Look(reserved, unknown, polling or services.fencing.poll_lease_left_seconds() > 0)


def connector_check(looks: Sequence[Look], portal: Portal) -> Check:
    """Return what the looks say. Pure."""
    name, connector = "connector", portal.connector
    clear = [look for look in looks if not look.unclear]
    if not clear:
        return skipped(name, "This deployment polls too often to tell; use --watch 60.", portal=portal.name)
    stayed = frozenset[str].intersection(*(look.reserved for look in looks))
    unknown = frozenset[str].union(*(look.unknown for look in clear))
    moving = unknown - stayed
    own = "Give one of the two a connector of its own: B24_CONNECTOR, or portal add --connector."
    if moving:
        what = f"Batches that are not ours ({len(moving)}) were reserved or acknowledged while this command looked"
        return failed(name, f"{what}: another deployment uses the connector {connector}.", own, portal=portal.name)
    if unknown and portal.ledger_epoch is None:
        remedy = f"If the other deployment is gone for good: b24offline portal claim {portal.name}. Else: {own}"
        what = f"Batches ({len(unknown)}) are reserved under the connector {connector}, and not by this deployment."
        return failed(name, what, remedy, portal=portal.name)
    if unknown:
        return warning(
            name,
            f"Reserved batches ({len(unknown)}) are unknown to the ledger.",
            f"After a crash they are adopted within 6 minutes. If they stay, another deployment uses {connector}. "
            f"{own}",
            portal=portal.name,
        )
    return ok(name, f"No other deployment was seen on the connector {connector}.", portal=portal.name)
