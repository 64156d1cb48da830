"""Query strings: what PHP reads is what was meant."""

from __future__ import annotations

from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b24offline.rest.php_query import php_query


def php_parse(query):
    """Read a query string the way PHP does, independently of how it was written."""
    root = {}
    for piece in query.split("&") if query else []:
        name, _, value = piece.partition("=")
        name = unquote_plus(name)
        head, *rest = name.split("[")
        path = [head] + [part.removesuffix("]") for part in rest]
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = unquote_plus(value)
    return root


def as_php_sees(value):
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, list):
        return {str(i): as_php_sees(v) for i, v in enumerate(value)}
    if isinstance(value, dict):
        return {k: as_php_sees(v) for k, v in value.items()}
    return str(value)


keys = st.text(st.characters(exclude_characters="[]\0", exclude_categories=["Cs"]), min_size=1)
scalars = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, min_size=1, max_size=4) | st.dictionaries(keys, inner, min_size=1, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(keys.filter(lambda k: " " not in k and "." not in k), values, max_size=4))
def test_a_query_arrives_as_php_reads_it(params):
    assert php_parse(php_query(params)) == as_php_sees(params)


@pytest.mark.parametrize(
    "params",
    [
        {"a": None}, {"a": []}, {"a": {}}, {"a": {"b": []}}, {"a": float("inf")}, {"a": b"x"}, {"a[b]": 1},
        {"": 1}, {"a": {"": 1}}, {"a": {"b]": 1}}, {"a\0": 1}, {"a.b": 1}, {"a b": 1},
    ],
)  # fmt: skip
def test_what_a_query_cannot_carry_is_refused(params):
    with pytest.raises(ValueError, match=r"cannot|PHP renames"):
        php_query(params)
