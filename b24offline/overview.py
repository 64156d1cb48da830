"""How each portal stands, from the store and the ledger alone, and whether a person must act. Calls no portal."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from b24offline.portal import Portal, PortalState, Wish

if TYPE_CHECKING:
    from b24offline.runtime import Runtime

LATE_SECONDS: Final = 60.0
"""A poll that is overdue for so long means that nobody polls."""
LONG_PAUSE_SECONDS: Final = 3600.0
"""What passes by itself has passed by then."""
_NAME: Final = re.compile(r"[a-z0-9._-]+")
_ACTORS: Final = {
    PortalState.AUTH_LOST: "portal administrator",
    PortalState.NOT_ADMIN: "portal administrator",
    PortalState.PLAN_TOO_SMALL: "portal administrator",
    PortalState.BLOCKED: "operator",
    PortalState.REMOVED: "operator",
}
"""Who must act where the error that led to the state did not tell."""


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What the ledger knows of a portal. Ages and waits in seconds.

    Attributes:
        open_batches: process id -> age; without those that are parked.
        overdue_runs: runs that the next sweep starts again.
        next_poll_seconds: until the next poll, negative when it is late; None when none is planned.
        counters: since the ledger began.
    """

    open_batches: dict[str, float]
    overdue_runs: int
    next_poll_seconds: float | None
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class Need:
    """What a person must do: ``actor`` in the words of `b24offline.errors.Actor`."""

    actor: str
    what: str


@dataclass(frozen=True, slots=True)
class Overview:
    """One portal. ``ledger`` None: it cannot be reached."""

    portal: Portal
    dead_letters: int
    ledger: LedgerView | None
    needs: tuple[Need, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs; no secret in it."""
        portal, ledger = self.portal, self.ledger
        return {
            "name": portal.name,
            "wish": portal.wish.value,
            "wish_since": portal.wish_since.isoformat(),
            "state": portal.state.value,
            "state_since": portal.state_since.isoformat(),
            "reason": portal.state_reason,
            "endpoint": portal.client_endpoint,
            "client_id": portal.client_id,
            "connector": portal.connector,
            "member_id": portal.member_id,
            "dead_letters": self.dead_letters,
            "ledger": None
            if ledger is None
            else {
                "open_batches": ledger.open_batches,
                "overdue_runs": ledger.overdue_runs,
                "next_poll_seconds": ledger.next_poll_seconds,
                "counters": ledger.counters,
            },
            "needs": [{"actor": need.actor, "what": need.what} for need in self.needs],
        }


def overviews(runtime: Runtime, *, removed: bool = False) -> list[Overview]:
    """All portals by name, with ``removed`` those that were removed too."""
    return [overview(runtime, portal) for portal in runtime.store.portals() if removed or portal.served]


def overview(runtime: Runtime, portal: Portal) -> Overview:
    """One portal."""
    dead_letters = runtime.store.count_dead_letters(portal.name)
    ledger = None
    with suppress(RedisError):
        ledger = _ledger_view(runtime, portal.name)
    return Overview(portal, dead_letters, ledger, needs(portal, ledger, dead_letters, datetime.now(UTC)))


def needs(portal: Portal, ledger: LedgerView | None, dead_letters: int, now: datetime) -> tuple[Need, ...]:
    """What persons must do about a portal at ``now``. Pure."""
    if not portal.served:
        return ()
    found = []
    state_age = (now - portal.state_since).total_seconds()
    actor = portal.state_actor or _ACTORS.get(portal.state, "nobody")
    if portal.state is PortalState.PAUSED and state_age > LONG_PAUSE_SECONDS:
        actor = "operator"
    busy = portal.wish is not Wish.PAUSED or bool(ledger and ledger.open_batches)
    if portal.state is not PortalState.ACTIVE and actor != "nobody" and busy:
        found.append(Need(actor, portal.state_reason or f"the portal is in the state {portal.state}"))
    if dead_letters:
        found.append(Need("operator", f"{dead_letters} dead letters wait for a decision"))
    if ledger is None:
        found.append(Need("operator", "the ledger cannot be reached: check Redis, or start b24offline up"))
    elif portal.polled and _unpolled(ledger, (now - portal.wish_since).total_seconds()):
        found.append(Need("operator", "nobody polls it: are beat and the workers running?"))
    return tuple(found)


def _unpolled(ledger: LedgerView, wished_for_seconds: float) -> bool:
    if ledger.next_poll_seconds is None:
        return wished_for_seconds > LATE_SECONDS
    return ledger.next_poll_seconds < -LATE_SECONDS


def _ledger_view(runtime: Runtime, name: str) -> LedgerView:
    ledger = runtime.kit(name).ledger
    now = ledger.now_ms()
    planned: Any = runtime.redis.zrange(f"{runtime.config.key_prefix}:polls", 0, -1, withscores=True)
    # A member is a portal's name, perhaps with more behind a character that no name holds.
    times = [at for member, at in planned if (match := _NAME.match(str(member))) and match[0] == name]
    return LedgerView(
        open_batches={pid: (now - opened) / 1000 for pid, opened in ledger.working_batches().items()},
        overdue_runs=ledger.overdue_runs(),
        next_poll_seconds=(min(times) - now) / 1000 if times else None,
        counters=ledger.counters(),
    )
