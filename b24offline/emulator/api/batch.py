"""The method `batch`: up to 50 commands in one request, later ones may refer to results of earlier ones."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.api.call import Call, Result
from b24offline.emulator.api.envelope import time_of
from b24offline.emulator.api.errors import ApiError, argument_error
from b24offline.emulator.api.params import Params, parse_query

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_COMMANDS: Final = 50
_REFERENCE: Final = re.compile(r"\$result((?:\[[^\]]*\])+)")
_KEY: Final = re.compile(r"\[([^\]]*)\]")
_MISSING: Final = object()


def run(call: Call, invoke: Callable[[Call], Result]) -> Result:
    """Execute the commands in order; each map of the reply is an empty list when it holds nothing."""
    commands = call.params.mapping("cmd")
    halt = call.params.get("halt") in (1, "1", True, "true", "Y")
    maps: dict[str, dict[str, Any]] = {
        name: {} for name in ("result", "result_error", "result_total", "result_next", "result_time")
    }
    for number, (name, command) in enumerate(commands.items()):
        try:
            inner = _command(call, number, command, maps["result"])
            result = _execute(inner, invoke)
        except ApiError as refusal:
            maps["result_error"][name] = {"error": refusal.code, "error_description": refusal.description}
            if halt:
                break
            continue
        maps["result"][name] = result.result
        if result.total is not None:
            maps["result_total"][name] = result.total
        if result.next is not None:
            maps["result_next"][name] = result.next
        maps["result_time"][name] = time_of(inner)
    return Result({name: _as_php(found) for name, found in maps.items()})


def _command(call: Call, number: int, command: object, results: Mapping[str, Any]) -> Call:
    if number >= MAX_COMMANDS:
        raise ApiError(400, "ERROR_BATCH_LENGTH_EXCEEDED", "Max batch length exceeded")
    if not isinstance(command, str):
        raise argument_error("a command is a text")
    method, _, query = command.partition("?")
    method = method.strip().strip("/").lower().removesuffix(".json")
    if method == "batch":
        raise ApiError(405, "ERROR_BATCH_METHOD_NOT_ALLOWED", "Method is not allowed for batch usage")
    values = _resolved(parse_query(query), results, call.portal.quirks.bad_reference)
    return replace(call, method=method, params=Params(values), now=call.portal.clock.now())


def _execute(call: Call, invoke: Callable[[Call], Result]) -> Result:
    error = call.command_error(call.method, call.params.values)
    if error is not None:
        raise error
    return invoke(call)


def _resolved(value: Any, results: Mapping[str, Any], missing: str) -> Any:
    if isinstance(value, dict):
        return {name: _resolved(item, results, missing) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, results, missing) for item in value]
    if not isinstance(value, str) or "$result" not in value:
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        found = _look_up(whole.group(1), results)
        return missing if found is _MISSING else found

    def text(match: re.Match[str]) -> str:
        found = _look_up(match.group(1), results)
        return missing if found is _MISSING or isinstance(found, dict | list) else str(found)

    return _REFERENCE.sub(text, value)


def _look_up(path: str, results: Mapping[str, Any]) -> Any:
    node: Any = results
    for key in _KEY.findall(path):
        if isinstance(node, list) and key.isascii() and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict) and key in node:
            node = node[key]
        else:
            return _MISSING
    return node


def _as_php(found: dict[str, Any]) -> Any:
    if list(found) == [str(number) for number in range(len(found))]:
        return list(found.values())
    return found
