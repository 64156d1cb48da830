"""Nested values as a PHP query string, the form in which a batch carries parameters. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from urllib.parse import quote


def php_query(params: Mapping[str, object]) -> str:
    """Return ``params`` as ``a=1&filter%5B%3EID%5D=5&id%5B0%5D=7``; lists get numeric keys, booleans become
    1 and 0.

    Raises ValueError for what a query string cannot express: null, an empty list or map (PHP would see the
    parameter as absent, and for a list of ids absent means "all"), numbers that are not finite, keys with
    brackets or NUL, and top-level keys with a space or a dot, which PHP renames.
    """
    pairs = []
    for key, value in params.items():
        name = _checked_key(key)
        if "." in name or " " in name:
            raise ValueError(f"PHP renames the parameter {name!r}, which holds a space or a dot")
        pairs += [f"{quote(path, safe='')}={quote(text, safe='')}" for path, text in _flatten(name, value)]
    return "&".join(pairs)


def _flatten(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield each scalar below ``path`` with its bracketed path."""
    if isinstance(value, Mapping | list | tuple):
        items = list(value.items() if isinstance(value, Mapping) else enumerate(value))
        if not items:
            raise ValueError(f"{path} is empty, and a query string cannot carry an empty list or map")
        for key, inner in items:
            yield from _flatten(f"{path}[{_checked_key(key)}]", inner)
    else:
        yield path, _scalar(path, value)


def _scalar(path: str, value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise ValueError(f"{path} is a {type(value).__name__}, and a query string cannot carry it")


def _checked_key(key: object) -> str:
    text = str(key)
    if not text or any(c in text for c in "[]\0"):
        raise ValueError(f"{text!r} cannot be the name of a parameter in a query string")
    return text
