"""The error of the emulated portal: a reply that is a refusal."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A refusal as the portal words it: HTTP `status`, `error` code (may be empty), `error_description`.

    `extra` holds further top-level keys of the body.
    """

    def __init__(self, status: int, code: str | int, description: str, extra: dict[str, Any] | None = None) -> None:
        super().__init__(f"{status} {code} {description}")
        self.status = status
        self.code = code
        self.description = description
        self.extra = extra or {}

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the refusal."""
        return {"error": self.code, "error_description": self.description, **self.extra}


def argument_error(description: str) -> ApiError:
    """Return 400 ERROR_ARGUMENT, the portal's word for a parameter it cannot use."""
    return ApiError(400, "ERROR_ARGUMENT", description)
