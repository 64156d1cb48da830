"""Filters and orders of the offline queue: which records a call means, and in which sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from b24offline.emulator.api.errors import argument_error
from b24offline.emulator.state import FIELD_VALUES, Condition, parse_moment

GET_FIELDS: Final = frozenset({"ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID"})
LIST_FIELDS: Final = GET_FIELDS | {"PROCESS_ID", "ERROR"}
GET_OPERATIONS: Final = (">=", "<=", "=", ">", "<")
LIST_OPERATIONS: Final = (*GET_OPERATIONS, "@", "%")


def parse_filter(raw: object, *, for_list: bool, strict: bool = True) -> tuple[Condition, ...]:
    """Read `{"<operation><FIELD>": value}`; an absent or empty one has no conditions.

    Raise ApiError 400 for what cannot be understood, unless `strict` is off: then the condition is ignored.
    """
    if raw in (None, "", [], {}):
        return ()
    if not isinstance(raw, Mapping):
        raise argument_error("filter must be a map of conditions")
    found = []
    for key, value in raw.items():
        operation, field = _split(str(key), LIST_OPERATIONS if for_list else GET_OPERATIONS)
        if field not in (LIST_FIELDS if for_list else GET_FIELDS):
            if strict:
                raise argument_error(f"filter field {key} is not allowed")
            continue
        found.append(_condition(operation, field, value))
    return tuple(found)


def parse_order(raw: object, *, for_list: bool, default: str) -> tuple[tuple[str, bool], ...]:
    """Read `{"FIELD": "ASC"|"DESC"}`; absent or empty means `default` ascending. Raise ApiError 400 otherwise."""
    if raw in (None, "", [], {}):
        return ((default, False),)
    if not isinstance(raw, Mapping):
        raise argument_error("order must be a map of fields")
    found = []
    for key, direction in raw.items():
        field, word = str(key).upper(), str(direction).upper()
        if field not in (LIST_FIELDS if for_list else GET_FIELDS) or word not in ("ASC", "DESC"):
            raise argument_error(f"order by {key} {direction} is not allowed")
        found.append((field, word == "DESC"))
    return tuple(found)


def _split(key: str, operations: Sequence[str]) -> tuple[str, str]:
    for operation in operations:
        if key.startswith(operation):
            return operation, key[len(operation) :].strip().upper()
    return "=", key.strip().upper()


def _condition(operation: str, field: str, raw: object) -> Condition:
    value_of = FIELD_VALUES[field]
    if operation == "@":
        given = raw.values() if isinstance(raw, Mapping) else raw
        if isinstance(given, str) or not hasattr(given, "__iter__"):
            given = [given]
        wanted = frozenset(_typed(field, item) for item in given)
        return lambda record: value_of(record) in wanted
    if isinstance(raw, list | Mapping):
        raise argument_error(f"the filter value of {field} must be scalar")
    if operation == "%":
        part = str(raw).lower()
        return lambda record: part in str(value_of(record)).lower()
    value = _typed(field, raw)
    comparisons: dict[str, Condition] = {
        "=": lambda record: bool(value_of(record) == value),
        ">": lambda record: bool(value_of(record) > value),
        "<": lambda record: bool(value_of(record) < value),
        ">=": lambda record: bool(value_of(record) >= value),
        "<=": lambda record: bool(value_of(record) <= value),
    }
    return comparisons[operation]


def _typed(field: str, raw: object) -> int | float | str:
    text = "" if raw is None or raw is False else "1" if raw is True else str(raw)
    if field not in ("ID", "ERROR", "TIMESTAMP_X"):
        return text.upper() if field == "EVENT_NAME" else text
    try:
        if field == "TIMESTAMP_X":
            return parse_moment(text)
        return int(text or "0")
    except ValueError:
        raise argument_error(f"the filter value of {field} cannot be read") from None
