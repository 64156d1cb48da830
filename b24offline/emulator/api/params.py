"""Parameters of a call: JSON, query strings and forms with PHP brackets, read without regard to case."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from b24offline.emulator.api.errors import ApiError, argument_error

_BRACKETS: Final = re.compile(r"\[([^\]]*)\]")
_DIGITS: Final = re.compile(r"\d+", re.ASCII)


def parse_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Fold `a[b][]=c` pairs into nested maps and lists, as PHP does."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        head, bracket, _ = name.partition("[")
        keys = [head, *_BRACKETS.findall(name[len(head) :])] if bracket and head else [name]
        node = root
        for key in keys[:-1]:
            step = _key(node, key)
            if not isinstance(node.get(step), dict):
                node[step] = {}
            node = node[step]
        node[_key(node, keys[-1])] = value
    return {key: _fold(value) for key, value in root.items()}


def parse_query(text: str) -> dict[str, Any]:
    """Parse a query string or a urlencoded form."""
    return parse_pairs(parse_qsl(text, keep_blank_values=True)) if text else {}


def parse_json(raw: bytes) -> dict[str, Any]:
    """Parse a JSON body; a list becomes numbered parameters, nothing at all none.

    Raise ApiError 400 for other bodies.
    """
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except ValueError:
        raise ApiError(400, "INVALID_REQUEST", "The body is not JSON") from None
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {str(number): item for number, item in enumerate(value)}
    raise ApiError(400, "INVALID_REQUEST", "The body is not a JSON object")


def _key(node: dict[str, Any], key: str) -> str:
    if key:
        return key
    return str(1 + max((int(number) for number in node if _DIGITS.fullmatch(number)), default=-1))


def _fold(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    folded = {key: _fold(item) for key, item in value.items()}
    if list(folded) == [str(number) for number in range(len(folded))]:
        return list(folded.values())
    return folded


class Params:
    """The parameters of one call; names are found as written, else without regard to case."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self._lower = {name.lower(): name for name in self.values}

    def __contains__(self, name: str) -> bool:
        return name in self.values or name.lower() in self._lower

    def get(self, name: str, default: Any = None) -> Any:
        """Return the raw value, or `default` when the parameter is absent."""
        if name in self.values:
            return self.values[name]
        written = self._lower.get(name.lower())
        return default if written is None else self.values[written]

    def text(self, name: str, default: str = "") -> str:
        """Return a scalar as text; null and false are empty. Raise ApiError 400 for lists and maps."""
        value = self.get(name, default)
        if value is None or value is False:
            return ""
        if isinstance(value, list | dict):
            raise argument_error(f"{name} must be scalar")
        return "1" if value is True else str(value)

    def number(self, name: str, default: int = 0) -> int:
        """Return a whole number; absent, null and empty give `default`. Raise ApiError 400 for anything else."""
        value = self.text(name)
        if value == "":
            return default
        try:
            return int(value)
        except ValueError:
            raise argument_error(f"{name} must be a whole number") from None

    def mapping(self, name: str) -> dict[str, Any]:
        """Return a map; absent, null, empty text and empty lists are empty ones; a list gets numbered keys."""
        value = self.get(name)
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, list):
            return {str(number): item for number, item in enumerate(value)}
        if value in (None, "", False):
            return {}
        raise argument_error(f"{name} must be a map")


def items_of(value: object) -> list[Any] | None:
    """Return the elements of what PHP calls an array: a list or a map; None for anything else."""
    if isinstance(value, list):
        return value
    return list(value.values()) if isinstance(value, Mapping) else None
