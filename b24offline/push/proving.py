"""What a message says of a portal, asked of the portal itself, at the address that the store has.

No address of a message is called.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from b24offline.errors import AuthLost, PortalError, RateLimited
from b24offline.events import ObservedState
from b24offline.rest import RestClient

if TYPE_CHECKING:
    from b24offline.push.message import Message
    from b24offline.runtime import Runtime

log = logging.getLogger(__name__)


def is_of(runtime: Runtime, name: str, message: Message) -> bool:
    """Return whether a message is one of a portal: its access token works there, for the same application as ours.

    If so its application token is stored. Raise the error of our own call.
    """
    services = runtime.services(name)
    ours = services.client.call("app.info", {}, kind="poll")
    client = RestClient(name, services.portal.client_endpoint, runtime.http)
    try:
        theirs = client.call("app.info", {}, token=message.access_token)
    except PortalError as error:
        log.warning("message refused: its token does not work", extra={"portal": name, "why": type(error).__name__})
        return False
    if _application(ours) is None or _application(ours) != _application(theirs):
        log.warning("message refused: it is one of another application", extra={"portal": name})
        return False
    runtime.store.application_tokens.save(name, message.application_token)
    log.info("application token noted", extra={"portal": name})
    return True


def look_whether_uninstalled(runtime: Runtime, name: str) -> bool:
    """Ask a portal that says that the application was uninstalled. Return whether our tokens are dead, and note it.

    Nothing is deleted: a new installation, or `b24offline auth`, continues where it ended.
    """
    services = runtime.services(name)
    try:
        services.client.call("app.info", {}, kind="poll")
    except AuthLost:
        _note_uninstalled(runtime, name)
        return True
    except (PortalError, RateLimited) as error:
        services.lifecycle.note_failure(error)
        return False
    log.warning("portal says that the application was uninstalled, and still serves it", extra={"portal": name})
    return False


def _note_uninstalled(runtime: Runtime, name: str) -> None:
    reason = (
        f"The application was uninstalled in portal {name}. Install it there again, or if it is to stay away: "
        f"b24offline portal remove {name} --force"
    )
    runtime.store.portals.set_state(name, ObservedState.AUTH_LOST, reason, actor="portal administrator")
    log.error("application uninstalled", extra={"portal": name})


def _application(info: Any) -> tuple[str, str] | None:
    """Return what identifies an application on a portal, of the answer of `app.info`."""
    if not isinstance(info, dict) or not info.get("ID") or not info.get("CODE"):
        return None
    return str(info["ID"]), str(info["CODE"])
