"""Row 46: portals that hang do not delay the others."""

from __future__ import annotations

from functools import partial
from typing import Final

from b24offline.rest import suspects
from tests.faults.crowd import ALL_BUT_RESERVING, Crowd, Phase, names
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until
from tests.support.waiting import NotInTime

OPEN: Final = 20
"""Batches that may be open; each sick portal has as many."""
NOISE_SECONDS: Final = 0.5
"""What a busy machine may add to any wait."""
IDLE_PORTALS: Final = 20
"""More of them are swept and polled less often: at 1/20, fifty idle ones keep a core busy."""
CHANGE_SECONDS: Final = 0.25
"""A healthy portal of many changes a deal so much later than the one before it, or more: they wait for no core."""


def hangs(stage: Stage, crowd: Crowd) -> None:
    """Measure the healthy ones, let the others hang with all their batches open, and measure again."""
    wait_until(crowd.empty, "nothing is left from the start", 120)
    measure = partial(crowd.measure, round_seconds=max(5.0, len(crowd.healthy) * CHANGE_SECONDS))
    measure("warm up", rounds=1)
    before = measure("without", rounds=4)
    for control in crowd.sick.values():
        for match in ALL_BUT_RESERVING:
            control.fault(match, "hang", seconds=120)
        control.change("crm_deal", "add", count=2 * OPEN)
    stage.noted(f"{len(crowd.sick)} portals hang in every call but the reserving one")
    _compare(stage, before, measure("with", rounds=6))
    try:
        wait_until(lambda: min(crowd.open_batches()) >= OPEN, "as many batches of each are open as may be", 120)
    except NotInTime as error:
        # Nobody is free to poll them.
        stage.expect(False, str(error))
        return
    _compare(stage, before, measure("later", rounds=3))
    for control in crowd.sick.values():
        control.disarm()
    wait_until(crowd.empty, "all portals are settled", 300)


def _compare(stage: Stage, before: Phase, now: Phase) -> None:
    bound, places = 2 * before.p95 + NOISE_SECONDS, suspects.places_for(stage.plan.concurrency)
    stage.expect(now.p95 <= bound, f"{now.what}: p95 was {before.p95:.2f} s, is {now.p95:.2f} s")
    stage.expect(now.usually_held <= places, f"{now.what}: sick portals hold {now.usually_held:g} processes")


def crowd_plan(healthy: tuple[str, ...], sick: tuple[str, ...], concurrency: int) -> Plan:
    """Return the plan of many portals, not so busy with what is done at idle ones that a machine has no time left."""
    idle_seconds, scale = (6, 0.4) if len(healthy) > IDLE_PORTALS else (1, 0.05)
    given = {"B24_BATCH_SIZE": "1", "B24_POLL_INTERVAL_MAX_SECONDS": str(idle_seconds)}
    return Plan(portals=(*healthy, *sick), objects=30, concurrency=concurrency, scale=scale, variables=given)


def _hanging(count: int, of: int, concurrency: int) -> None:
    healthy, sick = names("well", of - count), names("sick", count - 1)

    plan = crowd_plan(healthy, sick, concurrency)

    @fault(46, f"{count} of {of} portals hang", plan=plan, repeats=None, drain_seconds=240)
    def hanging(stage: Stage) -> None:
        hangs(stage, Crowd(stage, healthy, sick))


_hanging(1, 10, 4)
_hanging(10, 50, 8)
