"""Row 46: portals that hang do not delay the others."""

from __future__ import annotations

from typing import Final

from tests.faults.crowd import ALL_BUT_RESERVING, Crowd, Phase, names
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until
from tests.support.waiting import NotInTime

OPEN: Final = 20
"""Batches that may be open; each sick portal has as many."""
NOISE_SECONDS: Final = 0.5
"""What a busy machine may add to any wait."""


def hangs(stage: Stage, crowd: Crowd) -> None:
    """Measure the healthy ones, let the others hang with all their batches open, and measure again."""
    wait_until(crowd.empty, "nothing is left from the start", 120)
    crowd.measure("warm up", rounds=1)
    before = crowd.measure("without", rounds=5)
    for control in crowd.sick.values():
        for match in ALL_BUT_RESERVING:
            control.fault(match, "hang", seconds=120)
        control.change("crm_deal", "add", count=2 * OPEN)
    stage.noted(f"{len(crowd.sick)} portals hang in every call but the reserving one")
    _compare(stage, before, crowd.measure("with", rounds=10))
    try:
        wait_until(lambda: min(crowd.open_batches()) >= OPEN, "as many batches of each are open as may be", 120)
    except NotInTime as error:
        # Nobody is free to poll them.
        stage.expect(False, str(error))
        return
    _compare(stage, before, crowd.measure("later", rounds=4))
    for control in crowd.sick.values():
        control.disarm()
    wait_until(crowd.empty, "all portals are settled", 300)


def _compare(stage: Stage, before: Phase, now: Phase) -> None:
    bound = 2 * before.p95 + NOISE_SECONDS
    stage.expect(now.p95 <= bound, f"{now.what}: p95 was {before.p95:.2f} s, is {now.p95:.2f} s")


def _plan(healthy: tuple[str, ...], sick: tuple[str, ...], concurrency: int) -> Plan:
    # Idle portals are not asked so often that a machine is busy with that alone.
    given = {"B24_BATCH_SIZE": "1", "B24_POLL_INTERVAL_MAX_SECONDS": str(max(1, len(healthy) // 10))}
    return Plan(portals=(*healthy, *sick), objects=30, concurrency=concurrency, variables=given)


def _hanging(count: int, of: int, concurrency: int) -> None:
    healthy, sick = names("well", of - count), names("sick", count - 1)

    @fault(46, f"{count} of {of} portals hang", plan=_plan(healthy, sick, concurrency), repeats=None, drain_seconds=240)
    def hanging(stage: Stage) -> None:
        hangs(stage, Crowd(stage, healthy, sick))


_hanging(1, 10, 4)
_hanging(10, 50, 8)
