"""Bodies that would fill memory, or that later code could not write again, are refused; odd numbers are not."""

from __future__ import annotations

import json
import math
import tracemalloc

import pytest

from b24offline.rest.bodies import MAX_DEPTH, MAX_ELEMENTS, TooLarge, bounded_json, parsed_json


def nested(depth: int) -> bytes:
    return b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2)


@pytest.mark.parametrize("element", [b"{}", b"[]", b"1", b'{"":1}'])
def test_too_many_elements_are_refused_before_they_are_made(element: bytes) -> None:
    body = b"[" + (element + b",") * MAX_ELEMENTS + element + b"]"
    tracemalloc.start()
    with pytest.raises(TooLarge, match="more than 500000 elements"):
        bounded_json(body)
    assert tracemalloc.get_traced_memory()[1] < 2 * len(body)
    tracemalloc.stop()


@pytest.mark.parametrize(("depth", "refused"), [(MAX_DEPTH, False), (MAX_DEPTH + 2, True), (900, True)])
def test_what_nests_too_deep_is_refused(depth: int, refused: bool) -> None:
    beside = b"[" + nested(depth) + b"]"
    if refused:
        with pytest.raises(TooLarge, match="nests deeper"):
            bounded_json(beside[1:-1])
    else:
        assert bounded_json(beside[1:-1]) == json.loads(beside)[0]


def test_what_nests_beyond_any_reading_is_no_json() -> None:
    assert parsed_json(nested(100_000)) is None


@pytest.mark.parametrize("digits", ["9" * 5000, "1" + "0" * 400, "1e400", "-" + "9" * 5000])
def test_a_number_of_any_length_is_read(digits: str) -> None:
    body = parsed_json(f'{{"total": {digits}, "result": [1]}}'.encode())
    assert isinstance(body, dict)
    assert body["result"] == [1]
    assert body["total"] in (math.inf, -math.inf, 10**400)
