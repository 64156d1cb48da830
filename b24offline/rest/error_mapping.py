"""The error class that a reply means. Pure.

The portal's texts are not stable, so the error code decides, then the HTTP status. Two cases need more:

- ``ACCESS_DENIED`` means "no administrator", "REST is not in this plan" or a method's own refusal. On the
  event methods, which only administrators may call, it becomes `NotAdministrator` (whose advice names the
  plan too); on any other method it is `AccessDenied`, because a user who may not read one deal says nothing
  about the portal.
- The classic CRM methods answer 400 with an empty code for everything; there the text "Not found" alone
  makes an `ObjectNotFound`, all else stays a `BadRequest`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from b24offline import errors

if TYPE_CHECKING:
    from b24offline.errors import PortalError

TOKEN_METHOD: Final = "oauth.token"  # noqa: S105 - a name, no password
"""The name of the token endpoint in errors and log lines."""

_BY_CODE: Final[Mapping[str, type[PortalError]]] = {
    "INTERNAL_SERVER_ERROR": errors.ServerError,
    "ERROR_UNEXPECTED_ANSWER": errors.ServerError,
    "QUERY_LIMIT_EXCEEDED": errors.QueryLimitExceeded,
    "OPERATION_TIME_LIMIT": errors.OperationTimeLimit,
    "OVERLOAD_LIMIT": errors.Overloaded,
    "EXPIRED_TOKEN": errors.ExpiredToken,
    "NO_AUTH_FOUND": errors.AuthLost,
    "INVALID_CREDENTIALS": errors.AuthLost,
    "INVALID_TOKEN": errors.AuthLost,
    "INVALID_GRANT": errors.AuthLost,
    "USER_ACCESS_ERROR": errors.NotAdministrator,
    "METHOD_CONFIRM_WAITING": errors.AccessDenied,
    "METHOD_CONFIRM_DENIED": errors.AccessDenied,
    "ALLOWED_ONLY_INTRANET_USER": errors.AccessDenied,
    "WRONG_LICENSE": errors.PlanTooSmall,
    "PAYMENT_REQUIRED": errors.PlanTooSmall,
    "WRONG_AUTH_TYPE": errors.WrongAuthType,
    "INSUFFICIENT_SCOPE": errors.InsufficientScope,
    "INVALID_SCOPE": errors.InsufficientScope,
    "PORTAL_DELETED": errors.PortalGone,
    "ERROR_ARGUMENT": errors.BadRequest,
    "INVALID_REQUEST": errors.BadRequest,
    "ERROR_METHOD_NOT_FOUND": errors.MethodNotFound,
    "METHOD_NOT_FOUND": errors.MethodNotFound,
    "ERROR_MANIFEST_IS_NOT_AVAILABLE": errors.MethodNotFound,
    "NOT_FOUND": errors.ObjectNotFound,
}

_BY_STATUS: Final[Mapping[int, type[PortalError]]] = {
    400: errors.BadRequest,
    401: errors.AuthLost,
    403: errors.AccessDenied,
    429: errors.OperationTimeLimit,
}

_BY_TOKEN_CODE: Final[Mapping[str, type[PortalError]]] = {
    "INVALID_GRANT": errors.AuthLost,
    "INVALID_CLIENT": errors.ClientRejected,
    "PAYMENT_REQUIRED": errors.PaymentRequired,
    "INSUFFICIENT_SCOPE": errors.InsufficientScope,
    "INVALID_SCOPE": errors.InsufficientScope,
}


def error_from_answer(portal: str, method: str, status: int, body: object) -> PortalError | None:
    """Return the error that a REST answer means, or None when it is a result.

    ``body`` is the parsed JSON, or None when it could not be parsed. For one command of a batch pass its
    entry of ``result_error`` with the status of the whole.
    """
    if 300 <= status < 400:
        return errors.Moved(portal, method, status, "", "")
    if isinstance(body, Mapping) and "error" not in body and "result" in body and 200 <= status < 300:
        return None
    reply = _code_and_description(body)
    if reply is None:
        return errors.UnknownAnswer(portal, method, status, "", "neither a result nor an error in JSON")
    code, description = reply
    error = _kind(method, status, code.upper(), description)(portal, method, status, code, description)
    if isinstance(error, errors.OperationTimeLimit):
        error.reset_at = _reset_at(body)
    return error


def error_from_token_answer(portal: str, status: int, body: object) -> PortalError | None:
    """Return the error that the token endpoint's answer means, or None when it is a pair of tokens.

    The statuses are not documented, so the body decides; anything that is neither a pair nor an error is
    `AuthServerUnavailable`.
    """
    if not isinstance(body, Mapping):
        return errors.AuthServerUnavailable(portal, TOKEN_METHOD, status, "", "the body is not a JSON object")
    if "error" not in body:
        if 200 <= status < 300 and all(_is_text(body.get(name)) for name in ("access_token", "refresh_token")):
            return None
        return errors.AuthServerUnavailable(portal, TOKEN_METHOD, status, "", "the body holds no pair of tokens")
    code, description = _code_and_description(body) or ("", "")
    kind = _BY_TOKEN_CODE.get(code.upper())
    if kind is None:
        temporary = status >= 500 or status == 429 or not code
        kind = errors.AuthServerUnavailable if temporary else errors.AuthServerError
    return kind(portal, TOKEN_METHOD, status, code, description)


def without_secrets(body: Mapping[str, object], *secrets: str) -> dict[str, object]:
    """Return the body of an error with each secret replaced by asterisks in the texts that errors are made of."""

    def hidden(value: object) -> object:
        for secret in filter(None, secrets) if isinstance(value, str) else ():
            value = str(value).replace(secret, "***")
        return value

    inner = body.get("error")
    error = {key: hidden(value) for key, value in inner.items()} if isinstance(inner, Mapping) else hidden(inner)
    return {**{key: hidden(value) for key, value in body.items()}, "error": error}


def _kind(method: str, status: int, code: str, description: str) -> type[PortalError]:
    """Choose the class; ``code`` is in upper case."""
    if code == "ACCESS_DENIED":
        return errors.NotAdministrator if method.lower().startswith("event.") else errors.AccessDenied
    if code.startswith("ERROR_BATCH_"):
        return errors.BatchRefused
    if code in _BY_CODE:
        return _BY_CODE[code]
    if not code and description.strip().rstrip(".").lower() == "not found":
        return errors.ObjectNotFound
    if status >= 500:
        return errors.ServerError
    return _BY_STATUS.get(status, errors.RefusedByMethod)


def _code_and_description(body: object) -> tuple[str, str] | None:
    """Return the code and the text of an error body, None when its form is unknown."""
    if not isinstance(body, Mapping) or "error" not in body:
        return None
    error, description = body["error"], body.get("error_description", "")
    if isinstance(error, Mapping):  # the form of REST 3.0
        error, description = error.get("code", ""), error.get("message", "")
    if isinstance(error, bool) or not isinstance(error, str | int | float):
        return None
    return str(error), description if isinstance(description, str) else ""


def _reset_at(body: object) -> float | None:
    """Return ``time.operating_reset_at`` as epoch seconds, None when it is missing or no number."""
    times = body.get("time") if isinstance(body, Mapping) else None
    value = times.get("operating_reset_at") if isinstance(times, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        moment = float(value)
    except (ValueError, OverflowError):
        return None
    return moment if math.isfinite(moment) else None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
