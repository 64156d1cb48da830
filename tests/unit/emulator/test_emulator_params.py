"""PHP brackets, JSON bodies, names without regard to case."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from b24offline.emulator.api.errors import ApiError
from b24offline.emulator.api.params import Params, parse_json, parse_pairs, parse_query


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", {}),
        ("a=1&b=", {"a": "1", "b": ""}),
        ("select[]=ID&select[]=NAME", {"select": ["ID", "NAME"]}),
        ("id%5B%5D=7", {"id": ["7"]}),
        ("id[]=", {"id": [""]}),
        ("fields[PHONE][0][VALUE]=%2B1", {"fields": {"PHONE": [{"VALUE": "+1"}]}}),
        ("filter[>ID]=5&filter[%3DERROR]=1", {"filter": {">ID": "5", "=ERROR": "1"}}),
        ("a[1]=x&a[]=y", {"a": {"1": "x", "2": "y"}}),
        ("a=1&a[b]=2", {"a": {"b": "2"}}),
        ("0=12&1[POST]=x", {"0": "12", "1": {"POST": "x"}}),
    ],
)
def test_queries_are_read_as_php_does(query, wanted):
    assert parse_query(query) == wanted


names = st.sampled_from(("ID", "name", "x_y", ">ID"))
texts = st.sampled_from(("", "a", "ü", "]["))
leaves = texts | st.lists(texts, min_size=1, max_size=3)
trees = leaves | st.dictionaries(names, leaves, min_size=1, max_size=3) | st.lists(leaves, min_size=1, max_size=2)


def flat(name, value):
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in flat(f"{name}[{key}]", inner)]
    if isinstance(value, list):
        return [pair for key, inner in enumerate(value) for pair in flat(f"{name}[{key}]", inner)]
    return [(name, value)]


@settings(deadline=None)
@given(st.dictionaries(names, trees, max_size=4))
def test_what_was_flattened_is_folded_back(values):
    pairs = [pair for name, value in values.items() for pair in flat(name, value)]
    assert parse_pairs(pairs) == values


def test_json_maps_and_lists_become_parameters():
    assert parse_json(b"") == {}
    assert parse_json(b'{"a": [1, null]}') == {"a": [1, None]}
    assert parse_json(b"[5, 6]") == {"0": 5, "1": 6}


@pytest.mark.parametrize("raw", [b"{", b"7", b'"text"'])
def test_bodies_that_are_no_json_map_or_list_are_refused(raw):
    with pytest.raises(ApiError):
        parse_json(raw)


def test_names_are_found_without_regard_to_case():
    params = Params({"FILTER": {"a": 1}, "Event": "x", "id": 3, "ID": 4})
    assert params.mapping("filter") == {"a": 1}
    assert params.text("event") == "x"
    assert params.number("id") == 3
    assert params.number("ID") == 4
    assert "order" not in params


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_lists_and_maps_are_refused_where_a_scalar_is_due(value):
    with pytest.raises(ApiError):
        Params({"process_id": value}).text("process_id")
