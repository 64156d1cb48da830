"""Spans of time on a command line."""

from __future__ import annotations

import re
from typing import Final

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parsed_span(text: str) -> float:
    """Return the seconds of a span like ``90s``, ``15m``, ``12h``, ``7d``, ``2w``. Raise ValueError for other text."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a span of time such as 90s, 15m, 12h, 7d or 2w")
    return float(match[1]) * _UNIT_SECONDS[match[2]]
