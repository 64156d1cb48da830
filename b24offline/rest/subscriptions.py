"""Binds the events that this deployment wants, and says why a portal cannot be served.

Repeatable: it runs at every start and at each look at the subscriptions. Source: `event.get`, `event.bind`,
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
    """What a look at the subscriptions did. ``refused``: event name -> what the portal said."""

    present: int
    added: tuple[str, ...]
    refused: dict[str, str]


def fingerprint(connector: str, events: Iterable[str]) -> str:
    """Return a short text that changes when what must be bound changes."""
    return hashlib.sha256("\n".join((connector, *sorted(events))).encode()).hexdigest()[:16]


def check_plan(client: PortalClient, portal: str) -> None:
    """Raise `PlanTooSmall` when the portal's plan cannot reserve events without deleting them."""
    answer = client.batch({code: Command("feature.get", {"CODE": code}) for code in FEATURES}, kind="poll")
    for code in FEATURES:
        if code in answer.errors:
            raise answer.errors[code]
        result = answer.results.get(code)
        if not isinstance(result, dict) or result.get("value") != "Y":
            raise PlanTooSmall(portal, "feature.get", 200, "WRONG_LICENSE", f"the plan has no {code}")


def bind_events(client: PortalClient, connector: str, events: Iterable[str]) -> SyncResult:
    """Bind the events as offline events of this connector; a refusal for one that is listed means it was bound.

    The portal's list does not say with which connector an event was bound, and a binding with another connector brings
    nothing to our queue. So each is bound, listed or not.
    """
    wanted = sorted({name.upper() for name in events})
    listed = client.call("event.get", {}, kind="poll").result
    have = _offline_names(listed)
    errors: dict[str, PortalError] = {}
    for start in range(0, len(wanted), _PART):
        commands = {
            name: Command("event.bind", {"event": name, "event_type": "offline", "auth_connector": connector})
            for name in wanted[start : start + _PART]
        }
        errors |= client.batch(commands, kind="poll").errors
    refused = {name: _why(error) for name, error in errors.items() if name not in have}
    added = tuple(name for name in wanted if name not in errors)
    return SyncResult(len(wanted) - len(added) - len(refused), added, refused)


def unbind_events(client: PortalClient, connector: str) -> int:
    """End every offline subscription of this connector; answers how many there were.

    Names come from the portal's list, which holds those of other connectors too; theirs stay, since each call names the
    connector. Raises the first refusal.
    """
    listed = client.call("event.get", {}, kind="poll").result
    names = sorted(_offline_names(listed))
    ended = 0
    for start in range(0, len(names), _PART):
        commands = {
            name: Command("event.unbind", {"event": name, "event_type": "offline", "auth_connector": connector})
            for name in names[start : start + _PART]
        }
        answer = client.batch(commands, kind="poll")
        for error in answer.errors.values():
            raise error
        counts = [row.get("count") for row in answer.results.values() if isinstance(row, dict)]
        ended += sum(count for count in counts if isinstance(count, int))
    return ended


def _offline_names(listed: object) -> set[str]:
    """Return the names of the offline events in the portal's list of subscriptions."""
    return {
        str(row.get("event", "")).upper()
        for row in (listed if isinstance(listed, list) else [])
        if isinstance(row, dict) and str(row.get("offline", "0")) == "1"
    }


def _why(error: PortalError) -> str:
    return f"{error.code or error.status}: {error.description}"[:200]
