"""A call of a method, and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from b24offline.emulator.api.errors import ApiError

if TYPE_CHECKING:
    from b24offline.emulator.api.params import Params
    from b24offline.emulator.state import Portal

CommandError = Callable[[str, dict[str, Any]], "ApiError | None"]
"""Return the error with which a command of a batch is refused, None to execute it; gets method and parameters."""


def no_error(_method: str, _params: dict[str, Any]) -> ApiError | None:
    """Refuse no command."""
    return None


@dataclass(frozen=True, slots=True)
class Call:
    """A method with its parameters on a portal.

    `now` is the portal's clock; `webhook` tells how it was authorized.
    `overlap_seconds` and `command_error` are set by faults: see `OfflineQueue.reserve` and `batch`.
    """

    portal: Portal
    method: str
    params: Params
    now: float
    webhook: bool = False
    overlap_seconds: float = 0.0
    command_error: CommandError = no_error

    @property
    def connector(self) -> str:
        """Return the `auth_connector`, empty without one; raise ApiError 403 when the plan has no connectors."""
        connector = self.params.text("auth_connector")
        if connector and not self.portal.licence.rest_auth_connector:
            raise ApiError(403, "WRONG_LICENSE", "The plan does not include event connectors")
        return connector

    def need_application(self) -> None:
        """Raise ApiError 403 when a webhook calls what only an application may."""
        if self.webhook:
            raise ApiError(403, "WRONG_AUTH_TYPE", "Current authorization type is denied for this method")

    def need_admin(self, description: str = "Access denied!") -> None:
        """Raise ApiError 403 when the user is no administrator."""
        if not self.portal.account.admin:
            raise ApiError(403, "ACCESS_DENIED", description)


@dataclass(frozen=True, slots=True)
class Result:
    """What a method returns: `result`, and for lists `total` and `next`."""

    result: Any
    total: int | None = None
    next: int | None = None


PAGE_SIZE = 50


def page_of(found: list[Any], start: int) -> tuple[list[Any], int, int | None]:
    """Return a page of 50 from offset `start`, the total, the next offset; -1 is the first page, with total 0."""
    if start < 0:
        return found[:PAGE_SIZE], 0, None
    following = start + PAGE_SIZE
    return found[start:following], len(found), following if following < len(found) else None
