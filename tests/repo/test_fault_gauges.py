"""What the gauges of a fault row make of their samples."""

from __future__ import annotations

import pytest

from tests.faults.crowd import Phase, quantile, waits
from tests.faults.gauges import growth
from tests.faults.isolation import judged


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


def test_a_change_waits_from_its_first_queueing_to_its_acknowledgement() -> None:
    history = [
        {"kind": kind, "id": number, "wall": wall}
        for kind, number, wall in (
            ("queued", "1", 10.0),
            ("restamped", "1", 11.0),
            ("queued", "2", 12.0),
            ("cleared", "1", 13.5),
            ("cleared", "9", 14.0),  # queued before the phase began
            ("queued", "3", 15.0),
        )
    ]
    assert waits(iter(history)) == [3.5]
    assert (quantile(range(1, 101), 0.95), quantile([7.0], 0.95)) == (95, 7.0)


@pytest.mark.parametrize(
    ("waited", "workers", "found"),
    [([2.0], [100, 100], 0), ([2.1], [100, 100], 1), ([2.0], [100, 120], 1), ([9.0], [100, 200], 2)],
)
def test_the_trial_judges_waits_and_memory(waited: list[float], workers: list[int], found: int) -> None:
    before = Phase("without", [1.0], [100], [50])
    assert len(judged(before, Phase("with", waited, workers, [50, 50]))) == found
