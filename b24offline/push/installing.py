"""A portal installs the application: its tokens are proved by the authorization server, then stored.

No address of a message is called, and its tokens are sent to the authorization server of our configuration only.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from b24offline.config import named_endpoint
from b24offline.delivery import add_portal, renew_portal
from b24offline.doctor import CheckState, first_look
from b24offline.errors import AuthLost, ClientRejected, PortalExists
from b24offline.events import ObservedState
from b24offline.failpoints import failpoint
from b24offline.rest import Client, exchange_refresh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.events import Portal
    from b24offline.rest import Grant
    from b24offline.runtime import Runtime
    from b24offline.store import Installation

log = logging.getLogger(__name__)

_LABEL: Final = "of a message"
"""Stands for the portal in errors, as long as nobody knows which one it is."""


def install(runtime: Runtime, message: Installation) -> str | None:
    """Store the portal of an installation and its tokens. Return its name, None where nothing was proved or stored.

    The refresh token of the message is exchanged, at our authorization server and as our application. Its answer says
    whose the token is and where that portal is; the message's word for it counts for nothing.

    Raise the error of a server that does not answer: it can be tried again.
    """
    exchanged = _exchanged(runtime, message)
    if exchanged is None:
        return None
    failpoint("push.exchanged")
    client, grant = exchanged
    if grant.member_id != message.member_id:
        log.error("installation refused: its token belongs to another account", extra={"member": message.member_id})
        return None
    try:
        endpoint = named_endpoint(runtime.config, grant.client_endpoint)
    except ValueError as error:
        log.warning("installation refused: its address", extra={"member": message.member_id, "why": str(error)})
        return None
    name = _stored(runtime, client, grant, endpoint)
    if name is None:
        return None
    failpoint("push.stored")
    runtime.store.application_tokens.save(name, message.application_token)
    _look_at(runtime, name, endpoint, grant)
    return name


def _exchanged(runtime: Runtime, message: Installation) -> tuple[Client, Grant] | None:
    """Return the application and the pair that a refresh token was exchanged for; None where it is none of ours."""
    for client in _clients(runtime, message.member_id):
        try:
            return client, exchange_refresh(runtime.http, _LABEL, client, message.refresh_token)
        except (AuthLost, ClientRejected) as error:
            log.warning(
                "installation refused by the authorization server",
                extra={"member": message.member_id, "why": type(error).__name__},
            )
    return None


def _clients(runtime: Runtime, member_id: str) -> Sequence[Client]:
    """Return the applications that a portal of this account may have: those it has, and that of the configuration."""
    config = runtime.config
    known = [runtime.store.portals.get(name) for name in runtime.store.application_tokens.of_member(member_id)]
    found = {portal.client_id: Client(portal.client_id, portal.client_secret, portal.auth_url) for portal in known}
    if config.client_id and config.client_secret:
        secret = config.client_secret.get_secret_value()
        found[config.client_id] = Client(config.client_id, secret, config.auth_url)
    return list(found.values())


def _stored(runtime: Runtime, client: Client, grant: Grant, endpoint: str) -> str | None:
    """Store the pair, with its portal where that is new. Return the portal's name, None where it was removed here."""
    store = runtime.store
    same = [
        portal
        for portal in store.portals.list(secret=False)
        if portal.client_id == client.client_id
        and (portal.member_id == grant.member_id or portal.client_endpoint == endpoint)
    ]
    served = [portal for portal in same if portal.served]
    if served:
        # Of several connectors that of the configuration.
        portal = max(served, key=lambda each: each.connector == runtime.config.connector)
        _renew(runtime, portal, client, grant, endpoint)
        return portal.name
    if same:
        log.error(
            "a portal that was removed here has installed the application: b24offline auth brings it back",
            extra={"portal": same[0].name},
        )
        return None
    host = urlsplit(endpoint).netloc.lower().replace(":", "-")[:55]
    connector = runtime.config.connector
    try:
        portal = add_portal(store, host, endpoint, connector, client, grant)
    except PortalExists:
        # Another portal, or application, has the name.
        portal = add_portal(store, f"{host}-{grant.member_id[:8].lower()}", endpoint, connector, client, grant)
    log.warning("portal added, it has installed the application", extra={"portal": portal.name})
    return portal.name


def _renew(runtime: Runtime, portal: Portal, client: Client, grant: Grant, endpoint: str) -> None:
    """Give a known portal its new pair; where it has moved, an operator confirms the address, as after a refresh."""
    if portal.client_endpoint != endpoint:
        reason = (
            f"Portal {portal.name} has installed the application at {endpoint}. If that is its address now: "
            f"b24offline portal set-url {portal.name} --url {endpoint}"
        )
        runtime.store.portals.set_state(portal.name, ObservedState.MOVED, reason, actor="operator")
        runtime.store.tokens.authorize(
            portal.name, grant.refresh_token, access_token=grant.access_token, member_id=grant.member_id
        )
        return
    renew_portal(runtime.store, portal, endpoint, client, grant)
    log.warning("portal has installed the application again", extra={"portal": portal.name})


def _look_at(runtime: Runtime, name: str, endpoint: str, grant: Grant) -> None:
    """Log what a portal lacks. It is stored all the same: its polls say so in `status`, and notice its end."""
    if runtime.store.portals.get(name).state is ObservedState.MOVED:
        return
    for check in first_look(runtime.http, name, endpoint, grant.access_token, frozenset()):
        if check.state is CheckState.FAILED:
            log.error("portal cannot be served yet", extra={"portal": name, "why": f"{check.finding} {check.remedy}"})
