"""The authorization server: exchanges refresh tokens and codes of all portals of one application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b24offline.emulator.api import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b24offline.emulator.api import Params
    from b24offline.emulator.state import Portal, TokenPair


@dataclass(frozen=True, slots=True)
class Application:
    """The registration that all portals have installed."""

    client_id: str
    client_secret: str = field(repr=False)
    address: str = ""
    """Where the authorization page sends a person who allowed it, as the application's settings say."""
    handler: str = ""
    """Where a portal posts that it has installed the application, as those settings say."""


def portal_of(portals: Mapping[str, Portal], params: Params) -> Portal | None:
    """Return the portal to which the refresh token or code of a request belongs."""
    refresh_token, code = params.text("refresh_token"), params.text("code")
    for portal in portals.values():
        if portal.tokens.owns(refresh_token) or portal.tokens.owns_code(code):
            return portal
    return None


def grant(application: Application, portal: Portal | None, params: Params, status: int) -> Outcome:
    """Answer a token request, refusals with `status`; `portal` is None when no portal knows the token."""
    grant_type = params.text("grant_type")
    if grant_type not in ("refresh_token", "authorization_code"):
        return _refusal(status, "invalid_request", "grant_type is missing or unknown")
    if (params.text("client_id"), params.text("client_secret")) != (
        application.client_id,
        application.client_secret,
    ):
        return _refusal(status, "invalid_client", "The client is unknown or its secret is wrong")
    if portal is None:
        return _refusal(status, "invalid_grant", "The grant is unknown")
    with portal.lock:
        return _exchange(portal, grant_type, params, status)


def _exchange(portal: Portal, grant_type: str, params: Params, status: int) -> Outcome:
    if portal.account.removed:
        return _refusal(status, "invalid_grant", "The application is not installed")
    if not portal.licence.commercial:
        return _refusal(status, "PAYMENT_REQUIRED", "Payment required")
    now = portal.clock.now()
    if grant_type == "refresh_token":
        pair = portal.tokens.refresh(params.text("refresh_token"), now, portal.quirks.refresh_grace_seconds)
    else:
        pair = portal.tokens.exchange(params.text("code"), now)
    if pair is None:
        return _refusal(status, "invalid_grant", "The grant is expired, replaced or revoked")
    return Outcome(200, _granted(portal, pair))


def _granted(portal: Portal, pair: TokenPair) -> dict[str, Any]:
    return {
        "access_token": pair.access_token,
        "client_endpoint": portal.address.endpoint,
        "domain": portal.address.domain,
        "expires": pair.expires,
        "expires_in": 3600,
        "member_id": portal.member_id,
        "refresh_token": pair.refresh_token,
        "scope": portal.account.scopes,
        "server_endpoint": portal.address.auth_url.replace("/oauth/token/", "/rest/"),
        "status": "L",
        "user_id": portal.account.user_id,
    }


def _refusal(status: int, code: str, description: str) -> Outcome:
    return Outcome(status, {"error": code, "error_description": description})
