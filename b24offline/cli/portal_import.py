"""`b24offline portal import`: many portals from JSON lines, one process. A wrong line is named, the others go on."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import track

from b24offline.cli.audited import Audited
from b24offline.cli.checked import checked, checked_address
from b24offline.cli.output import Refusal, load_runtime
from b24offline.errors import PortalExists, StoreError, StoreUnavailable, UnknownPortal
from b24offline.events import ObservedState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from b24offline.runtime import Runtime

ADDED: Final = "added"
RENEWED: Final = "authorized again"
KEPT: Final = "already stored"
_FIELDS: Final = {
    "name": "portal_name",
    "client_id": "client_id",
    "client_secret": "client_secret",
    "refresh_token": "refresh_token",
    "access_token": "refresh_token",
    "connector": "connector",
}
"""Key of a line -> the setting whose rules its value must follow."""
_ADDRESSES: Final = {"url": "portal_url", "auth_url": "auth_url"}
_KNOWN: Final = (*_ADDRESSES, *_FIELDS)


@click.command("import", cls=Audited)
@click.argument("file", type=click.File("r", encoding="utf-8"))
def import_portals(file: TextIO) -> None:
    """Add many portals from a file of JSON lines.

    FILE has a JSON object in each line; - reads stdin.

    Each line has url and refresh_token; and where they differ from B24_*, name (default: the host), client_id,
    client_secret, access_token, auth_url and connector. A portal that is stored already keeps its tokens, unless its
    authorization is lost. A wrong line is named, the others are imported, and the exit status is 1.
    """
    runtime = load_runtime()
    results: Counter[str] = Counter()
    wrong = 0
    lines = [(number, line) for number, line in enumerate(file, 1) if line.strip()]
    console = Console(stderr=True)
    for number, line in track(lines, "importing", console=console, disable=not console.is_terminal, transient=True):
        try:
            results[import_line(runtime, line)] += 1
        except StoreUnavailable as error:
            raise click.ClickException(f"Stopped at line {number}: {error} Import the file again.") from None
        except (Refusal, StoreError, ValueError) as error:
            wrong += 1
            text = error.message.removesuffix(" Nothing was changed.") if isinstance(error, Refusal) else error
            click.echo(f"Line {number}: {text}", err=True)
    click.echo(
        ", ".join(f"{count} {what}" for what, count in results.items()) + "." if results else "Nothing to import."
    )
    if wrong:
        raise click.ClickException(f"{wrong} of {len(lines)} lines were not imported.")


def import_line(runtime: Runtime, line: str) -> str:
    """Add the portal of a line, or authorize it again where that is lost. Return which; raise what is wrong with it."""
    given = _values(line)
    config = runtime.config
    secret = config.client_secret.get_secret_value() if config.client_secret else ""
    values = {
        "client_id": config.client_id or "",
        "client_secret": secret,
        "auth_url": config.auth_url,
        "connector": config.connector,
        "name": (urlsplit(given.get("url", "")).hostname or ""),
        **given,
    }
    if missing := [key for key in ("url", "client_id", "client_secret", "refresh_token") if not values.get(key)]:
        raise ValueError(f"{' and '.join(missing)} missing.")
    right = {key: checked(_FIELDS[key], key, value) for key, value in values.items() if key not in _ADDRESSES}
    right |= {key: checked_address(config, field, key, values[key]) for key, field in _ADDRESSES.items()}
    name, refresh, access = right.pop("name"), right.pop("refresh_token"), right.pop("access_token", "")
    right["client_endpoint"] = right.pop("url")
    try:
        runtime.store.portals.add(name, refresh_token=refresh, access_token=access, **right)
    except PortalExists:
        return _known(runtime, name, right, refresh, access)
    return ADDED


def _known(runtime: Runtime, name: str, registration: Mapping[str, str], refresh: str, access: str) -> str:
    """Return what became of a line whose portal is there already. Raise PortalExists for another portal's name."""
    store = runtime.store
    try:
        portal = store.portals.get_without_secret(name)
    except UnknownPortal:
        raise PortalExists(f"{name}: the portal is stored under another name. Remove the line.") from None
    queue = ("client_endpoint", "client_id", "connector")
    if any(getattr(portal, key) != registration[key] for key in queue):
        raise PortalExists(f"{name}: the name belongs to another portal, application or connector. Choose another one.")
    if portal.state is not ObservedState.AUTH_LOST:
        return KEPT
    store.tokens.authorize(name, refresh, access_token=access)
    runtime.poll_soon(name)
    return RENEWED


def _values(line: str) -> dict[str, str]:
    """Return the values of a line. Raise ValueError; no value is repeated in it, since some are secret."""
    try:
        value: Any = json.loads(line)
    except ValueError:
        raise ValueError("it is not JSON.") from None
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("it is not a JSON object whose values are texts.")
    if unknown := sorted(set(value) - set(_KNOWN)):
        raise ValueError(f"unknown: {', '.join(map(repr, unknown))}; known are {', '.join(_KNOWN)}.")
    return {key: each.strip() for key, each in value.items() if each.strip()}
