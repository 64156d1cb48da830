"""The execution of a fault: what happens to the call, and what its caller gets instead of the reply."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.emulator.api import Outcome
    from b24offline.emulator.server.faults import ArmedFault, FaultPlan
    from b24offline.emulator.server.site import Site

JSON_TYPE: Final = "application/json; charset=utf-8"
_HTML: Final = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class ConnectionLostError(Exception):
    """The caller gets no reply: its connection is reset."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply. `length` is what the header announces, when that is a lie."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    length: int | None = None


def reply_of(outcome: Outcome) -> Reply:
    """Return the reply without a fault."""
    return Reply(outcome.status, json.dumps(outcome.body).encode())


@dataclass(frozen=True, slots=True)
class Steps:
    """What can be done with one call; each step is given the kind of the fault for the log.

    `admit` tells how the call is refused at its arrival, None when it is not; `perform` does an admitted call,
    given the seconds of overlap; `skip` logs that it is not done.
    """

    admit: Callable[[str], Outcome | None]
    perform: Callable[[str, float], Outcome]
    skip: Callable[[str], None]


def troubled(site: Site, armed: ArmedFault, steps: Steps, gone: Callable[[], bool]) -> Reply:
    """Apply a fault to one call.

    `gone` tells whether the caller has closed the connection. Raise ConnectionLostError when there is no reply.
    """
    plan = armed.plan

    def execute(overlap_seconds: float = 0.0) -> Outcome:
        with site.portal.lock:
            refused = steps.admit(plan.kind)
            return steps.perform(plan.kind, overlap_seconds) if refused is None else refused

    if plan.kind == "overlap":
        return reply_of(execute(plan.seconds))
    if plan.kind in ("delay", "hold"):
        if plan.stage == "before":
            armed.hold(plan.seconds)
        outcome = execute()
        if plan.stage == "after":
            armed.hold(plan.seconds)
        return reply_of(outcome)
    if plan.kind == "twice":
        execute()
        return reply_of(execute())
    if plan.kind == "late":
        refused = steps.admit(plan.kind)
        if refused is not None:
            return reply_of(refused)
        site.later.add(site.portal.clock.now() + plan.seconds, lambda: steps.perform(plan.kind, 0.0))
        raise ConnectionLostError
    if plan.stage == "before":
        steps.skip(plan.kind)
        return _spoiled(armed, None, gone)
    return _spoiled(armed, execute(), gone)


def _spoiled(armed: ArmedFault, outcome: Outcome | None, gone: Callable[[], bool]) -> Reply:
    plan = armed.plan
    if plan.kind == "hang":
        armed.hold(plan.seconds, gone)
    if plan.kind in ("hang", "reset"):
        raise ConnectionLostError
    body: dict[str, Any] = {"result": None} if outcome is None else outcome.body
    if plan.kind == "truncated":
        whole = _body(plan, json.dumps(body).encode())
        return Reply(plan.status or 200, whole[: len(whole) // 2], length=len(whole))
    if plan.kind == "redirect":
        return Reply(plan.status or 302, _body(plan, b""), "text/html", (("Location", plan.location),))
    refusal = {"error": plan.code, "error_description": plan.description}
    if plan.kind in _SIZED:
        return Reply(plan.status or 200, _SIZED[plan.kind](body, plan.size))
    status, otherwise, content_type = {
        "wrong_types": (200, json.dumps(twisted(body)).encode(), JSON_TYPE),
        "broken_rows": (200, json.dumps(with_broken_rows(body)).encode(), JSON_TYPE),
        "html": (502, _HTML, "text/html; charset=utf-8"),
        "empty": (200, b"", JSON_TYPE),
        "status": (500, b"", "text/plain"),
        "error": (500, json.dumps(refusal).encode(), JSON_TYPE),
    }[plan.kind]
    return Reply(plan.status or status, _body(plan, otherwise), content_type)


_LARGE_TEXT: Final = "<large text>"


def _with_rows(body: dict[str, Any], change: Callable[[list[Any]], list[Any]]) -> bytes:
    """Return a reply of the queue with other rows; one without rows as it is."""
    result = body.get("result")
    if isinstance(result, dict) and isinstance(result.get("events"), list):
        body = {**body, "result": {**result, "events": change(result["events"])}}
    elif isinstance(result, list):
        body = {**body, "result": change(result)}
    return json.dumps(body).encode()


def _large_rows(body: dict[str, Any], size: int) -> bytes:
    # Put in behind: to encode so much text takes seconds, in which no other portal of this process gets an answer.
    small = _with_rows(body, lambda rows: [{**row, "EVENT_ADDITIONAL": {"text": _LARGE_TEXT}} for row in rows])
    return small.replace(_LARGE_TEXT.encode(), b"x" * size)


def _many_rows(body: dict[str, Any], size: int) -> bytes:
    return _with_rows(body, lambda rows: [*rows, *({**rows[0], "ID": str(n)} for n in range(10**9, 10**9 + size))])


def _braces(body: dict[str, Any], size: int) -> bytes:
    del body
    return b'{"result":[' + b"{}," * (size // 3) + b"{}]}"


_SIZED: Final[dict[str, Callable[[dict[str, Any], int], bytes]]] = {
    "large_rows": _large_rows,
    "many_rows": _many_rows,
    "braces": _braces,
}


def twisted(body: dict[str, Any]) -> dict[str, Any]:
    """Return a reply whose `result` holds the right keys with values of other types."""
    result = body.get("result")
    if isinstance(result, dict):
        return {**body, "result": {name: _other(value) for name, value in result.items()}}
    return {**body, "result": _other(result)}


def with_broken_rows(body: dict[str, Any]) -> dict[str, Any]:
    """Return a reply of the queue whose rows are broken, each in the next of several ways."""
    result = body.get("result")
    if isinstance(result, dict) and isinstance(result.get("events"), list):
        return {**body, "result": {**result, "events": _broken(result["events"])}}
    return {**body, "result": _broken(result)} if isinstance(result, list) else body


def _broken(rows: list[Any]) -> list[Any]:
    return [_BREAKS[number % len(_BREAKS)](dict(row)) for number, row in enumerate(rows)]


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda row: {key: value for key, value in row.items() if key != name}


_BREAKS: Final[tuple[Callable[[dict[str, Any]], Any], ...]] = (
    _without("EVENT_NAME"),
    lambda row: {**row, "TIMESTAMP_X": None},
    _without("MESSAGE_ID"),
    lambda row: {**row, "EVENT_DATA": False},
    lambda row: {**row, "ID": "none"},
    _without("EVENT_DATA"),
    lambda row: {**row, "EVENT_ADDITIONAL": 7},
    lambda _: "unexpected",
    lambda row: {**row, "EVENT_DATA": []},
)


def _other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return {"0": "unexpected"}
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int | float):
        return [value]
    return "unexpected"


def _body(plan: FaultPlan, otherwise: bytes) -> bytes:
    if plan.body is None:
        return otherwise
    return plan.body.encode() if isinstance(plan.body, str) else json.dumps(plan.body).encode()
