"""Bodies of replies as values, within bounds that keep a hostile one from filling memory. Pure."""

from __future__ import annotations

import json
import math
from typing import Final

MAX_ELEMENTS: Final = 500_000
"""Values, containers among them, of one body: 8 MiB of `{}` would take 200 MB of memory."""
MAX_DEPTH: Final = 100
"""Containers inside each other: what is read is written again, by code that calls itself for each of them."""


class TooLarge(Exception):
    """A body that must not become values; the text is safe to log."""


def parsed_json(content: bytes) -> object:
    """Return the JSON of a body, None when it is not JSON or nests too deeply to be read."""
    try:
        return json.loads(content, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def bounded_json(content: bytes) -> object:
    """Return the JSON of a body as `parsed_json`. Raise TooLarge for too many elements, before they are made.

    What separates them is counted in texts, too: no honest answer has so many commas.
    """
    if content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_ELEMENTS:
        raise TooLarge(f"the answer has more than {MAX_ELEMENTS} elements")
    body = parsed_json(content)
    if _is_deep(body):
        raise TooLarge(f"the answer nests deeper than {MAX_DEPTH}")
    return body


def _is_deep(body: object) -> bool:
    level = [body]
    for _ in range(MAX_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _whole(digits: str) -> int | float:
    """Return a whole number; one of thousands of digits, which Python refuses, as infinity."""
    try:
        return int(digits)
    except ValueError:
        return -math.inf if digits.startswith("-") else math.inf
