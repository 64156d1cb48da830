"""How each portal stands, from the store and the ledger alone, and whether a person must act. Calls no portal."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from b24offline.errors import WrongKey
from b24offline.portal import Portal, PortalState, Wish
from b24offline.reconcile_schedule import RECONCILE
from b24offline.reconciled import Reconciled, last_reconciled, missed_sentence
from b24offline.trouble_signs import Signs, complaints, signs_of

if TYPE_CHECKING:
    from b24offline.runtime import Runtime

LATE_SECONDS: Final = 60.0
"""A poll that is overdue for so long means that nobody polls."""
LONG_PAUSE_SECONDS: Final = 3600.0
"""What passes by itself has passed by then."""
LONG_RECONCILIATION_SECONDS: Final = 2 * 86_400.0
"""Even a mirror of a hundred thousand objects is read in less."""
_ACTORS: Final = {
    PortalState.AUTH_LOST: "portal administrator",
    PortalState.NOT_ADMIN: "portal administrator",
    PortalState.PLAN_TOO_SMALL: "portal administrator",
    PortalState.UNDECIDED: "operator",
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
        newer_batches: process id -> ledger schema, of the open ones that a newer version wrote.
        signs: ages and counts that a person should know of when they grow.
        reconciled: how the last reconciliation ended; None when the ledger knows of none.
        unreconciled_seconds: for how long one that was asked for has not ended.
    """

    open_batches: dict[str, float]
    overdue_runs: int
    next_poll_seconds: float | None
    counters: dict[str, int]
    newer_batches: dict[str, int] = field(default_factory=dict)
    signs: Signs = field(default_factory=Signs)
    reconciled: Reconciled | None = None
    unreconciled_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Need:
    """What a person must do: ``actor`` in the words of `b24offline.errors.Actor`."""

    actor: str
    what: str


@dataclass(frozen=True, slots=True)
class Overview:
    """One portal. ``ledger`` None: it cannot be reached, or was not asked for want of the portal's secret."""

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
                "newer_batches": ledger.newer_batches,
                "oldest_reserved_seconds": ledger.signs.oldest_reserved_seconds,
                "orphans": ledger.signs.orphans,
                "unreadable": ledger.signs.unreadable,
                "refused_events": list(ledger.signs.refused),
                "reconciled": asdict(ledger.reconciled) if ledger.reconciled else None,
            },
            "needs": [{"actor": need.actor, "what": need.what} for need in self.needs],
        }


def overviews(runtime: Runtime, *, removed: bool = False) -> list[Overview]:
    """All portals by name, with ``removed`` those that were removed too.

    One whose secret cannot be opened is among them, with that as its reason and as what an operator must mend.
    """
    found = []
    for name in runtime.store.names(removed=removed):
        try:
            found.append(overview(runtime, runtime.store.portal(name)))
        except WrongKey as error:
            found.append(_unopened(runtime, name, str(error)))
    return found


def _unopened(runtime: Runtime, name: str, why: str) -> Overview:
    portal = replace(runtime.store.portal_without_secret(name), state_reason=why)
    mend = f"{why} Or store its secrets anew with this key: b24offline portal secret, then portal authorize {name}."
    return Overview(portal, runtime.store.count_dead_letters(name), None, (Need("operator", mend),))


def overview(runtime: Runtime, portal: Portal) -> Overview:
    """One portal."""
    dead_letters = runtime.store.count_dead_letters(portal.name)
    ledger = None
    with suppress(RedisError):
        ledger = _ledger_view(runtime, portal.name)
    found = needs(portal, ledger, dead_letters, datetime.now(UTC))
    if ledger is not None and portal.served:
        told = complaints(ledger.signs, runtime.timers, looks=portal.polled and runtime.config.adopt)
        found += tuple(Need("operator", what) for what in told)
    return Overview(portal, dead_letters, ledger, found)


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
    if ledger and ledger.reconciled and (what := missed_sentence(ledger.reconciled)):
        found.append(Need("operator", what))
    if ledger and portal.polled and ledger.unreconciled_seconds > LONG_RECONCILIATION_SECONDS:
        hours = ledger.unreconciled_seconds / 3600
        found.append(Need("operator", f"a reconciliation does not end, asked for {hours:.0f} h ago: look at its log"))
    newer = list(ledger.newer_batches.values()) if ledger else []
    for schema in sorted(set(newer)):
        what = f"{newer.count(schema)} open batches are of a newer version (ledger schema {schema}) and wait for it"
        command = f"b24offline portal forget-batches {portal.name} --schema {schema}"
        found.append(Need("operator", f"{what}: start it again, or give them up with: {command}"))
    return tuple(found)


def _unpolled(ledger: LedgerView, wished_for_seconds: float) -> bool:
    if ledger.next_poll_seconds is None:
        return wished_for_seconds > LATE_SECONDS
    return ledger.next_poll_seconds < -LATE_SECONDS


def _ledger_view(runtime: Runtime, name: str) -> LedgerView:
    ledger = runtime.kit(name).ledger
    now = ledger.now_ms()
    planned = runtime.redis.zscore(f"{runtime.config.key_prefix}:polls", name)
    return LedgerView(
        open_batches={pid: (now - opened) / 1000 for pid, opened in ledger.working_batches().items()},
        overdue_runs=ledger.overdue_runs(),
        next_poll_seconds=None if planned is None else (planned - now) / 1000,
        counters=ledger.counters(),
        newer_batches=runtime.kit(name).newer.found(),
        signs=signs_of(runtime.redis, ledger),
        reconciled=last_reconciled(runtime.redis, ledger.stem),
        unreconciled_seconds=runtime.kit(name).requests.oldest_seconds(RECONCILE),
    )
