"""What a portal says with an access token that was just given: before anything relies on it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from b24offline.doctor.check import Check, failed
from b24offline.doctor.portal_checks import portal_checks
from b24offline.errors import PortalError
from b24offline.rest import RestClient, portal_facts

if TYPE_CHECKING:
    from b24offline.rest import Http


def first_look(http: Http, portal: str, endpoint: str, access_token: str, scopes: frozenset[str]) -> list[Check]:
    """Return the checks of what a portal must offer. ``scopes``: what the routes need."""
    client = RestClient(portal, endpoint, http)
    try:
        facts = portal_facts(partial(client.batch, token=access_token))
    except PortalError as error:
        return [failed("portal", str(error), "Run the command again.", portal=portal)]
    return list(portal_checks(facts, scopes, datetime.now(UTC), portal))
