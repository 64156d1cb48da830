"""The portal that most tests begin with."""

from __future__ import annotations

import pytest
from emulator_bench import Bench


@pytest.fixture
def bench() -> Bench:
    """Three deals that were changed, bound for the connector `crm`; so three free records, 1 to 3."""
    made = Bench.new("ONCRMDEALUPDATE")
    for deal in made.deals(3):
        made.touch(deal)
    return made
