"""Binds the online events that a portal sends to an address of ours: its signals, and news about the application.

Source: `event.bind`, `event.unbind` and `event.get` of the vendor's documentation. They carry no data that is used: a
signal says that records have arrived, and is proved by the application's token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from b24offline.rest.client import Command

if TYPE_CHECKING:
    from b24offline.rest.portal_client import PortalClient

SIGNAL: Final = "ONOFFLINEEVENT"
INSTALLED: Final = "ONAPPINSTALL"
UPDATED: Final = "ONAPPUPDATE"
UNINSTALLED: Final = "ONAPPUNINSTALL"
HANDLED: Final = (SIGNAL, UPDATED, UNINSTALLED)
"""What is bound. The installation itself is sent to the address in the application's settings, without a binding."""


def bind_handlers(client: PortalClient, address: str, min_timeout_seconds: int) -> dict[str, str]:
    """Let the portal send its signals to an address. Return event name -> why it was refused.

    What is bound there already stays, with the least pause between two signals that it was bound with.
    """
    commands = {name: _command("event.bind", name, address) for name in HANDLED}
    options = {"options": {"minTimeout": min_timeout_seconds}}
    commands[SIGNAL] = Command("event.bind", {**commands[SIGNAL].params, **options})
    errors = client.batch(commands, kind="poll").errors
    there = listed_handlers(client, address) if errors else frozenset()
    return {
        name: f"{error.code or error.status}: {error.description}"[:200]
        for name, error in errors.items()
        if name not in there
    }


def unbind_handlers(client: PortalClient, address: str) -> int:
    """End what is bound to an address; return how many there were. Raise the first refusal."""
    reply = client.batch({name: _command("event.unbind", name, address) for name in HANDLED}, kind="poll")
    for error in reply.errors.values():
        raise error
    counts = [row.get("count") for row in reply.results.values() if isinstance(row, dict)]
    return sum(count for count in counts if isinstance(count, int))


def listed_handlers(client: PortalClient, address: str) -> frozenset[str]:
    """Return the names of the online events that the portal sends to an address."""
    listed = client.call("event.get", {}, kind="poll")
    return frozenset(
        str(row.get("event", "")).upper()
        for row in (listed if isinstance(listed, list) else [])
        if isinstance(row, dict)
        and str(row.get("offline", "0")) != "1"
        and _plain(str(row.get("handler", ""))) == _plain(address)
    )


def _command(method: str, name: str, address: str) -> Command:
    params: dict[str, Any] = {"event": name, "event_type": "online", "handler": address}
    return Command(method, params)


def _plain(address: str) -> str:
    return address.rstrip("/").lower()
