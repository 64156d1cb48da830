"""The filter and the order of records that a reserving call may carry: one grammar for settings and for calls. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

FIELDS: Final = ("ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID")
_FILTER_KEY: Final = re.compile(rf"(>=|<=|=|>|<)({'|'.join(FIELDS)})")


def checked_filter(conditions: object) -> dict[str, str | int]:
    """Return the conditions, or raise ValueError: known operators and fields, single values only."""
    if not isinstance(conditions, Mapping):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - pydantic reports ValueError
    for key, wanted in conditions.items():
        if not isinstance(key, str) or not _FILTER_KEY.fullmatch(key):
            raise ValueError(f"must have keys made of = > < >= or <= and one of {', '.join(FIELDS)}")
        if not isinstance(wanted, str | int) or isinstance(wanted, bool):
            raise ValueError("must compare with single texts or whole numbers")  # noqa: TRY004
    return dict(conditions)


def checked_order(order: object) -> dict[str, str]:
    """Return the order, field to direction, or raise ValueError: known fields, ASC or DESC."""
    rows = order.items() if isinstance(order, Mapping) else [("", "")]
    if not all(field in FIELDS and direction in ("ASC", "DESC") for field, direction in rows):
        raise ValueError(f"must be one of {', '.join(FIELDS)} followed by ASC or DESC")
    return dict(rows)
