"""One request to the authorization server, which gives pairs of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from b24offline.errors import AuthHostRefused, AuthServerUnavailable, PortalError
from b24offline.rest.bodies import TooLarge, parsed_json
from b24offline.rest.error_mapping import TOKEN_METHOD, error_from_token_answer, without_secrets
from b24offline.rest.transport import Lost, NotSent, checked_url

if TYPE_CHECKING:
    from b24offline.rest.transport import Http

_MAX_ANSWER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Client:
    """An application as the authorization server knows it."""

    client_id: str
    client_secret: str = field(repr=False)
    auth_url: str


def token_answer(http: Http, portal: str, client: Client, **grant: str) -> Mapping[str, object] | PortalError:
    """Ask for a pair; return the body that holds it, or the error, without secrets in its text."""
    address = checked_url(client.auth_url, f"authorization address of portal {portal}")
    host = urlsplit(address).hostname or ""
    if address.startswith("https:") and host not in http.auth_hosts:
        return AuthHostRefused(portal, TOKEN_METHOD, None, "", host)
    params = {**grant, "client_id": client.client_id, "client_secret": client.client_secret}
    try:
        raw = replace(http, max_response_bytes=_MAX_ANSWER_BYTES).exchange("GET", address, params=params)
    except (NotSent, Lost, TooLarge) as error:
        return AuthServerUnavailable(portal, TOKEN_METHOD, None, "", str(error))
    body = parsed_json(raw.content)
    if isinstance(body, Mapping) and "error" in body:
        body = without_secrets(body, client.client_secret, *grant.values())
    return error_from_token_answer(portal, raw.status, body) or cast("Mapping[str, object]", body)
