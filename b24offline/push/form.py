"""A body as PHP sends it, `auth[member_id]=...&data[FIELDS][ID]=7`, as nested dicts of texts. Pure.

Anybody can send one, so every size is bounded before work is done for it.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

MAX_BODY_BYTES: Final = 65_536
"""The events that are taken have some hundred bytes."""
MAX_FIELDS: Final = 200
MAX_DEPTH: Final = 5
MAX_KEY_CHARACTERS: Final = 256

Form = dict[str, "str | Form"]
"""Name -> text, or what was in brackets behind the name. Lists have their places as names: ``{"0": ...}``."""

_NAME: Final = re.compile(r"([^\[\]\0]+)((?:\[[^\[\]\0]*\])*)")
_INNER: Final = re.compile(r"\[([^\[\]]*)\]")


class Malformed(ValueError):
    """A body is not of the expected form, or larger than it may be. The text holds nothing of the body."""


def parse_form(body: bytes) -> Form:
    """Return the fields of a body. Raise `Malformed`.

    Of two fields of one name the last one counts. Names that contradict each other, as ``a=1&a[b]=2``, are refused.
    """
    if len(body) > MAX_BODY_BYTES:
        raise Malformed("it is too long")
    form: Form = {}
    for name, text in _fields(body):
        path = _path(name)
        inner = form
        for key in path[:-1]:
            below = inner.setdefault(_place(inner, key), {})
            if isinstance(below, str):
                raise Malformed("a name is a text and has parts")
            inner = below
        last = _place(inner, path[-1])
        if isinstance(inner.get(last), dict):
            raise Malformed("a name has parts and is a text")
        inner[last] = text
    return form


def text_of(form: Form, *path: str) -> str:
    """Return the text at a path of names; "" where there is none."""
    found: str | Form = form
    for name in path:
        found = found.get(name, "") if isinstance(found, dict) else ""
    return found if isinstance(found, str) else ""


def _fields(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:  # not ASCII, not UTF-8 behind the percent signs, no pairs, or too many of them
        raise Malformed("it is no form, or has too many fields") from None


def _path(name: str) -> tuple[str, ...]:
    parts = _NAME.fullmatch(name) if len(name) <= MAX_KEY_CHARACTERS else None
    if parts is None:
        raise Malformed("a name is too long, or its brackets do not match")
    path = (parts[1], *_INNER.findall(parts[2]))
    if len(path) > MAX_DEPTH:
        raise Malformed("it is too deep")
    return path


def _place(inner: Form, key: str) -> str:
    """Return the name itself; for empty brackets the next number, as PHP counts."""
    return key or str(max((int(known) + 1 for known in inner if known.isascii() and known.isdigit()), default=0))
