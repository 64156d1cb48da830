"""Binds the events that a deployment wants, and checks whether the portal's plan suffices.

Idempotent: it runs at every start and at each check of the subscriptions. Source: `event.get`, `event.bind`,
`feature.get`, `events` of the vendor's documentation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.errors import PlanTooSmall, PortalError
from b24offline.rest.client import Command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.rest.portal_client import PortalClient

_PART: Final = 50
FEATURES: Final = ("rest_offline_extended", "rest_auth_connector")
"""What the portal's plan must offer: reserving without deleting, and queues split by connector."""


@dataclass(frozen=True, slots=True)
class SyncResult:
    """Result of binding. ``refused``: event name -> the portal's error."""

    present: int
    added: tuple[str, ...]
    refused: dict[str, str]


def fingerprint(connector: str, events: Iterable[str]) -> str:
    """Return a short text that changes with the connector or the set of events."""
    return hashlib.sha256("\n".join((connector, *sorted(events))).encode()).hexdigest()[:16]


def check_plan(client: PortalClient, portal: str) -> None:
    """Raise `PlanTooSmall` when the portal's plan cannot reserve events without deleting them."""
    reply = client.batch({code: Command("feature.get", {"CODE": code}) for code in FEATURES}, kind="poll")
    for code in FEATURES:
        if code in reply.errors:
            raise reply.errors[code]
        result = reply.results.get(code)
        if not isinstance(result, dict) or result.get("value") != "Y":
            raise PlanTooSmall(portal, "feature.get", 200, "WRONG_LICENSE", f"the plan has no {code}")


def bind_events(client: PortalClient, connector: str, events: Iterable[str]) -> SyncResult:
    """Bind the events as offline events of this connector; a refusal of a listed event means that it was bound already.

    The portal's list does not tell the connector of a binding, and a binding with another connector brings nothing to
    our queue. So each event is bound, listed or not.
    """
    wanted = sorted({name.upper() for name in events})
    listed = listed_events(client)
    errors: dict[str, PortalError] = {}
    for start in range(0, len(wanted), _PART):
        errors |= client.batch(_commands("event.bind", wanted[start : start + _PART], connector), kind="poll").errors
    refused = {name: _reason(error) for name, error in errors.items() if name not in listed}
    added = tuple(name for name in wanted if name not in errors)
    return SyncResult(len(wanted) - len(added) - len(refused), added, refused)


def unbind_events(client: PortalClient, connector: str, events: Iterable[str] | None = None) -> int:
    """Remove these offline subscriptions of this connector, by default every one; return how many there were.

    The portal's list of names includes those of other connectors; these stay, since each call names the connector.
    Raise the first refusal.
    """
    names = sorted(listed_events(client) if events is None else events)
    ended = 0
    for start in range(0, len(names), _PART):
        reply = client.batch(_commands("event.unbind", names[start : start + _PART], connector), kind="poll")
        for error in reply.errors.values():
            raise error
        counts = [row.get("count") for row in reply.results.values() if isinstance(row, dict)]
        ended += sum(count for count in counts if isinstance(count, int))
    return ended


def _commands(method: str, names: Iterable[str], connector: str) -> dict[str, Command]:
    params = {"event_type": "offline", "auth_connector": connector}
    return {name: Command(method, {"event": name, **params}) for name in names}


def listed_events(client: PortalClient) -> set[str]:
    """Return the names of the offline events in the portal's list of subscriptions."""
    listed = client.call("event.get", {}, kind="poll")
    return {
        str(row.get("event", "")).upper()
        for row in (listed if isinstance(listed, list) else [])
        if isinstance(row, dict) and str(row.get("offline", "0")) == "1"
    }


def _reason(error: PortalError) -> str:
    return f"{error.code or error.status}: {error.description}"[:200]
