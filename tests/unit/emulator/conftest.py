"""The portals that most tests begin with: one in this process, one behind HTTP."""

from __future__ import annotations

import pytest

from b24offline.emulator import EmulatorProcess
from tests.unit.emulator.emulator_bench import PortalBench
from tests.unit.emulator.emulator_caller import Caller


@pytest.fixture
def bench() -> PortalBench:
    """Three deals that were changed, bound for the connector `crm`; so three free records, 1 to 3."""
    made = PortalBench.new("ONCRMDEALUPDATE")
    for deal in made.deals(3):
        made.touch(deal)
    return made


@pytest.fixture(scope="module")
def emulator():
    with EmulatorProcess(portals=["second"], objects=60) as running:
        yield running


@pytest.fixture
def caller(emulator):
    made = Caller(emulator)
    yield made
    made.close()
