"""The authorization-code flow: the link that a person opens, what the portal sends back, and the pair for the code.

Source: the vendor's pages on OAuth 2.0. A code lives 30 s and is good once; the address to which the portal sends the
person is that of the application's settings, not a parameter.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from b24offline.errors import AuthLost, CodeRefused, PortalError, WrongRedirect
from b24offline.rest.error_mapping import TOKEN_METHOD
from b24offline.rest.token_endpoint import Client, token_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b24offline.rest.transport import Http

CODE_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Grant:
    """What the authorization server gave for a code: a pair of tokens, and whose it is."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    member_id: str
    client_endpoint: str
    scopes: frozenset[str]


def authorize_link(client_endpoint: str, client_id: str, state: str) -> str:
    """Return the address of a portal's authorization page for an application."""
    base = client_endpoint.removesuffix("rest/")
    return f"{base}oauth/authorize/?{urlencode({'client_id': client_id, 'state': state})}"


def code_from(redirect: str, state: str) -> str:
    """Return the code of the address that the portal sent a person to. Raise WrongRedirect where there is none.

    ``state`` is the one of the link: an address without it belongs to another link, or was made up.
    """
    query = parse_qs(urlsplit(redirect.strip()).query)
    code, given = query.get("code", [""])[0], query.get("state", [""])[0]
    if not code:
        raise WrongRedirect(
            "That is not the address that the portal sends you to: it has no code=... in it. Copy the whole line of "
            "the browser's address bar after you have allowed the application."
        )
    if not hmac.compare_digest(given.encode(), state.encode()):
        raise WrongRedirect("That address belongs to another link (its state differs). Open the link printed above.")
    return code


def exchange_code(http: Http, portal: str, client: Client, code: str) -> Grant:
    """Exchange a code for a pair of tokens. Raise CodeRefused, ClientRejected and other errors of the server.

    After an answer that was lost the code may be used up; the whole flow can be repeated at any time.
    """
    body = token_answer(http, portal, client, grant_type="authorization_code", code=code)
    if isinstance(body, AuthLost):
        raise CodeRefused(portal, TOKEN_METHOD, body.status, body.code, body.description)
    if isinstance(body, PortalError):
        raise body
    return _grant(body)


def exchange_refresh(http: Http, portal: str, client: Client, refresh_token: str) -> Grant:
    """Exchange a refresh token that somebody sent for a pair of tokens: so the server proves whose it is.

    The token that was sent may be used up then. Raise AuthLost for one that is none of this application, and other
    errors of the server.
    """
    body = token_answer(http, portal, client, grant_type="refresh_token", refresh_token=refresh_token)
    if isinstance(body, PortalError):
        raise body
    return _grant(body)


def _grant(body: Mapping[str, object]) -> Grant:
    return Grant(
        access_token=str(body["access_token"]),
        refresh_token=str(body["refresh_token"]),
        member_id=str(body.get("member_id") or ""),
        client_endpoint=str(body.get("client_endpoint") or ""),
        scopes=frozenset(str(body.get("scope") or "").split(",")) - {""},
    )
