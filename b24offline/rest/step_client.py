"""A portal's client as steps get it: what it writes does not come back as an event of our own queue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from b24offline.events import JSON
    from b24offline.rest.client import BatchAnswer, Command
    from b24offline.rest.portal_client import PortalClient

CONNECTOR: Final = "auth_connector"
_READING_VERBS: Final = ("get", "list")
"""How the last word of a method begins that reads: `get`, `getFields`, `list`."""
_READING_WORDS: Final = frozenset(
    {"fields", "search", "count", "current", "types", "time", "info", "access", "profile", "scope", "methods", "events"}
)
_OUR_QUEUE: Final = "event.offline"


def is_writing(method: str) -> bool:
    """Return whether a method may change something: all that do not say that they read."""
    word = method.lower().rpartition(".")[2]
    return not word.startswith(_READING_VERBS) and word not in _READING_WORDS


class StepClient:
    """Calls a portal's methods, within its rate limit and with its token, as `PortalClient` does.

    Methods that write carry the portal's connector: the portal queues no event for us of a change that we made, so a
    step cannot start its own pipeline again. ``wake_us=True`` asks for that event; a connector among the parameters is
    left as it is.
    """

    def __init__(self, client: PortalClient, connector: str) -> None:
        self._client = client
        self._connector = connector

    def call(self, method: str, params: Mapping[str, object] | None = None, *, wake_us: bool = False) -> JSON:
        """Call one method; return its result. Errors as in `PortalClient.call`."""
        return self._client.call(method, self._params(method, params or {}, wake_us))

    def batch(self, commands: Mapping[str, Command], *, wake_us: bool = False) -> BatchAnswer:
        """Call up to 50 methods in one request; errors of the whole as in `PortalClient.batch`."""
        return self._client.batch(
            {
                name: replace(command, params=self._params(command.method, command.params, wake_us))
                for name, command in commands.items()
            }
        )

    def _params(self, method: str, params: Mapping[str, object], wake_us: bool) -> Mapping[str, object]:
        if method.strip().lower().startswith(_OUR_QUEUE):
            raise ConfigError(f"A step must not call {method}: the offline queue is acknowledged by b24offline alone.")
        if wake_us or CONNECTOR in params or not is_writing(method):
            return params
        return {**params, CONNECTOR: self._connector}  # last: some methods go by the order of their parameters
