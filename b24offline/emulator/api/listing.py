"""Lists of objects: filter operations before field names, order, fields to show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from b24offline.emulator.state import parse_moment

_OPERATIONS: Final = ("!%", "!@", "!=", ">=", "<=", "!", "=", "@", "%", ">", "<")
_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)

Row = Mapping[str, Any]


def matching(rows: Iterable[Row], conditions: Mapping[str, Any], name_of: Callable[[str], str]) -> list[Row]:
    """Return the rows that meet all conditions; `name_of` turns a caller's field name into a row's."""
    checks = [_check(str(key), value, name_of) for key, value in conditions.items()]
    return [row for row in rows if all(check(row) for check in checks)]


def ordered(rows: list[Row], order: Mapping[str, Any], name_of: Callable[[str], str]) -> list[Row]:
    """Return the rows by the named fields, numbers by value; without an order as they are."""
    found = list(rows)
    for key, direction in reversed(list(order.items())):
        found.sort(key=partial(_rank_of, name_of(str(key))), reverse=str(direction).upper() == "DESC")
    return found


def shown(row: Row, select: Iterable[Any] | None, name_of: Callable[[str], str], id_name: str) -> dict[str, Any]:
    """Return the selected fields of a row and its id; all of them without a selection or with `*`."""
    names = [str(name) for name in select or ()]
    if not names or "*" in names:
        return dict(row)
    wanted = {id_name, *(name_of(name) for name in names)}
    return {name: value for name, value in row.items() if name in wanted}


def _check(key: str, value: Any, name_of: Callable[[str], str]) -> Callable[[Row], bool]:
    operation = next((known for known in _OPERATIONS if key.startswith(known)), "")
    name = name_of(key[len(operation) :])
    if operation.startswith("!"):
        positive = _comparison(operation[1:] or "=", value)
        return lambda row: not positive(row.get(name))
    positive = _comparison(operation or "=", value)
    return lambda row: positive(row.get(name))


def _comparison(operation: str, value: Any) -> Callable[[Any], bool]:
    if operation == "%":
        part = _text(value).lower()
        return lambda own: part in _text(own).lower()
    if isinstance(value, list | Mapping) or operation == "@":
        given = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value]
        texts = frozenset(_text(item) for item in given)
        return lambda own: _text(own) in texts
    wanted = _rank(value)
    comparisons: dict[str, Callable[[Any], bool]] = {
        "=": lambda own: _text(own) == _text(value),
        ">": lambda own: _rank(own) > wanted,
        "<": lambda own: _rank(own) < wanted,
        ">=": lambda own: _rank(own) >= wanted,
        "<=": lambda own: _rank(own) <= wanted,
    }
    return comparisons[operation]


def _rank_of(name: str, row: Row) -> tuple[int, float, str]:
    return _rank(row.get(name))


def _text(value: Any) -> str:
    return "" if value is None or value is False else str(value)


def _rank(value: Any) -> tuple[int, float, str]:
    text = _text(value)
    if _NUMBER.fullmatch(text):
        return (0, float(text), "")
    try:
        # Dates are compared as moments: a caller may write them in another zone than the portal does.
        return (1, parse_moment(text), "")
    except ValueError:
        return (2, 0.0, text)
