"""One REST request on one portal: limits, authorization, method, log. No HTTP here."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.api import batch
from b24offline.emulator.api.call import Call, CommandError, no_error
from b24offline.emulator.api.envelope import time_of
from b24offline.emulator.api.errors import ApiError
from b24offline.emulator.api.router import invoke

if TYPE_CHECKING:
    from b24offline.emulator.api.params import Params
    from b24offline.emulator.state import Portal

_LOGGED_PARAMS: Final = frozenset(
    {
        "process_id",
        "id",
        "message_id",
        "clear",
        "error",
        "limit",
        "filter",
        "order",
        "auth_connector",
        "start",
    }
)


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A method (lower case), its parameters, and how it is authorized: a token, or a webhook's address."""

    method: str
    params: Params
    token: str = field(default="", repr=False)
    webhook: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """HTTP status and JSON body."""

    status: int
    body: dict[str, Any]


def execute(portal: Portal, request: RestRequest, command_error: CommandError = no_error) -> Outcome:
    """Admit a request and execute it."""
    with portal.lock:
        refused = admit(portal, request)
        return perform(portal, request, command_error=command_error) if refused is None else refused


def admit(portal: Portal, request: RestRequest, *, fault: str = "") -> Outcome | None:
    """Put a request through bucket and authorization; return its refusal, which is logged, or None."""
    with portal.lock:
        try:
            _check(portal, request, portal.clock.now())
        except ApiError as refusal:
            outcome = Outcome(refusal.status, refusal.body())
            note(portal, request, outcome, fault=fault)
            return outcome
        return None


def perform(
    portal: Portal,
    request: RestRequest,
    *,
    fault: str = "",
    overlap_seconds: float = 0.0,
    command_error: CommandError = no_error,
) -> Outcome:
    """Execute an admitted request and log it; `fault` names the fault that it suffers."""
    with portal.lock:
        now = portal.clock.now()
        call = Call(portal, request.method, request.params, now, request.webhook, overlap_seconds, command_error)
        started = time.perf_counter()
        try:
            result = batch.run(call, invoke) if request.method == "batch" else invoke(call)
        except ApiError as refusal:
            outcome = Outcome(refusal.status, refusal.body())
        else:
            body: dict[str, Any] = {"result": result.result}
            if result.next is not None:
                body["next"] = result.next
            if result.total is not None:
                body["total"] = result.total
            outcome = Outcome(200, {**body, "time": time_of(call)})
        note(portal, request, outcome, fault=fault, seconds=time.perf_counter() - started)
        return outcome


def note(portal: Portal, request: RestRequest, outcome: Outcome | None, *, fault: str = "", seconds: float = 0) -> None:
    """Log a request; one without an outcome was not executed."""
    with portal.lock:
        portal.calls[request.method] += 1
        logged = {}
        if request.method.startswith("event.offline."):
            logged = {name: value for name, value in request.params.values.items() if name.lower() in _LOGGED_PARAMS}
        elif request.method == "batch":
            logged = {"cmd": [_logged_command(str(command)) for command in request.params.mapping("cmd").values()]}
        portal.requests.add(
            portal.clock.now(),
            method=request.method,
            status=None if outcome is None else outcome.status,
            error=None if outcome is None else outcome.body.get("error"),
            fault=fault or None,
            seconds=round(seconds, 6),
            params=logged,
        )


def _logged_command(command: str) -> str:
    return command if command.lower().startswith("event.offline.") else command.partition("?")[0]


def _check(portal: Portal, request: RestRequest, now: float) -> None:
    if not portal.bucket.admit(now):
        raise ApiError(503, "QUERY_LIMIT_EXCEEDED", "Too many requests")
    if portal.account.removed:
        quirks = portal.quirks
        raise ApiError(quirks.removed_app_status, quirks.removed_app_error, "The application is not installed")
    if not request.webhook and not portal.tokens.valid(request.token, now):
        if portal.tokens.knows(request.token):
            raise ApiError(401, "expired_token", "The access token provided has expired")
        raise ApiError(401, "NO_AUTH_FOUND", "Wrong authorization data")
    if not portal.licence.commercial:
        raise ApiError(403, "ACCESS_DENIED", "REST API is available only on commercial plans")
