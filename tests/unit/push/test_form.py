"""Bodies with PHP's brackets: read back as they were written, bounded, and refused without a trace of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from b24offline.push.form import (
    MAX_BODY_BYTES,
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_KEY_CHARACTERS,
    Malformed,
    parse_form,
    text_of,
)
from b24offline.rest.php_query import php_query

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="[]\0. "), min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)
FORMS = st.recursive(TEXTS, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=6)


def depth(form: Any) -> int:
    return 1 + max(map(depth, form.values()), default=0) if isinstance(form, dict) else 0


@given(st.dictionaries(NAMES, FORMS, max_size=4))
def test_what_php_writes_is_read_back(form: dict[str, Any]) -> None:
    body = php_query(form).encode()
    if depth(form) > MAX_DEPTH:
        with pytest.raises(Malformed):
            parse_form(body)
    else:
        assert parse_form(body) == form


@given(st.binary(max_size=300))
@example(b"a[b=1")
@example(b"a]=1")
@example(b"[a]=1")
@example(b"a[][]=1&a[0]=2")
@example("a[²]=1&a[]=2".encode())
@example(b"a=%ff")
@example(b"&&==")
@example(b"a%00[b]=1")
def test_any_bytes_are_a_form_or_malformed(body: bytes) -> None:
    with suppress(Malformed):
        assert depth(parse_form(body)) <= MAX_DEPTH


def test_what_is_said_about_a_body_holds_nothing_of_it() -> None:
    with pytest.raises(Malformed, match=r"^a name is too long, or its brackets do not match$"):
        parse_form(b"secret[=1")


def test_an_event_of_the_portal_is_read() -> None:
    body = b"event=ONOFFLINEEVENT&ts=17&auth[member_id]=a1&auth%5Bscope%5D=crm&data[FIELDS][ID]=7"
    assert parse_form(body) == {
        "event": "ONOFFLINEEVENT",
        "ts": "17",
        "auth": {"member_id": "a1", "scope": "crm"},
        "data": {"FIELDS": {"ID": "7"}},
    }


def test_lists_get_the_numbers_that_php_gives_them() -> None:
    assert parse_form(b"a[]=x&a[]=y&a[7]=z&a[]=w") == {"a": {"0": "x", "1": "y", "7": "z", "8": "w"}}


def test_the_last_of_two_fields_counts() -> None:
    assert parse_form(b"a=1&a=2&b[c]=3&b[c]=4") == {"a": "2", "b": {"c": "4"}}


@pytest.mark.parametrize(
    "body",
    [
        b"a=1&a[b]=2",
        b"a[b]=2&a=1",
        b"a",
        b"=1",
        b"a[b]c=1",
        b"a=%80",
        "ä=1".encode(),
        b"a=" + b"x" * MAX_BODY_BYTES,
        urlencode({f"k{number}": "" for number in range(MAX_FIELDS + 1)}).encode(),
        b"a" + b"[b]" * MAX_DEPTH + b"=1",
        b"k" * (MAX_KEY_CHARACTERS + 1) + b"=1",
    ],
)
def test_what_is_no_form_or_too_large_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        parse_form(body)


def test_the_largest_that_is_taken() -> None:
    fields = {f"k{number}": "" for number in range(MAX_FIELDS)}
    assert len(parse_form(urlencode(fields).encode())) == MAX_FIELDS
    deepest = "a" + "[b]" * (MAX_DEPTH - 1)
    assert depth(parse_form(f"{quote(deepest)}=1".encode())) == MAX_DEPTH
    assert parse_form(b"") == {}


def test_a_text_is_found_at_its_path_only() -> None:
    form = parse_form(b"auth[member_id]=a1&event=E")
    assert text_of(form, "auth", "member_id") == "a1"
    assert [text_of(form, *path) for path in (("auth",), ("event", "x"), ("auth", "none"), ("none",))] == [""] * 4
