"""Bring what the authorization server gave for a portal into the store: a new portal, or a known one's new tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.events import ObservedState

if TYPE_CHECKING:
    from b24offline.events import Portal
    from b24offline.rest import Client, Grant
    from b24offline.store import Store


def add_portal(store: Store, name: str, endpoint: str, connector: str, client: Client, grant: Grant) -> Portal:
    """Add a portal with its first pair of tokens. Raise PortalExists, and MemberMismatch for a second name."""
    return store.portals.add(
        name,
        client_endpoint=endpoint,
        auth_url=client.auth_url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        connector=connector,
        refresh_token=grant.refresh_token,
        access_token=grant.access_token,
        member_id=grant.member_id,
    )


def renew_portal(store: Store, portal: Portal, endpoint: str, client: Client, grant: Grant) -> None:
    """Give a known portal a new pair. ``endpoint`` is the one that an operator named, or that was known before."""
    name = portal.name
    if portal.client_endpoint != endpoint or portal.state is ObservedState.MOVED:
        store.portals.set_endpoint(name, endpoint)
    if store.portals.get(name).client_secret != client.client_secret:
        store.portals.set_client_secret(client.client_id, client.client_secret)
    store.tokens.authorize(name, grant.refresh_token, access_token=grant.access_token, member_id=grant.member_id)
