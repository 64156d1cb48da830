"""What the gauges of a fault row make of their samples."""

from __future__ import annotations

import pytest

from tests.faults.gauges import growth


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([10, 20, 20, 20], 1.0),
        ([20, 10, 10, 10], 0.5),
        ([10, 20, 30, 40], 2.0),
        ([10, 10, 10, 90, 10, 10], 9.0),
        ([5], 1.0),
        ([], 1.0),
    ],
)
def test_growth_compares_the_peaks_of_the_two_halves(samples: list[int], expected: float) -> None:
    assert growth(samples) == expected
