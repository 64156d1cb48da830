"""Row 39: everything at once, at random, for minutes; then the mirror must be the portal, object by object."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import Final

import psutil

from demo.comparison import compare
from tests.faults.gauges import Gauges
from tests.faults.journal import FUSED
from tests.faults.row import Plan, fault
from tests.faults.stage import CONNECTOR, PORTAL, Stage

MINUTES: Final = "B24OFFLINE_TEST_MINUTES"
"""How long the random mix lasts, in the environment of the rows."""
CHANGES_A_SECOND: Final = 20
STANDSTILL_SECONDS: Final = 600.0
"""While something dies every second less is done than is changed: what waits at the end is minutes of work. The last of
it may be a record that failed again and again, whose next run is as far away as that."""
KINDS: Final = {
    "answer": 5,
    "late": 1,
    "twice": 1,
    "steal": 1,
    "handler": 2,
    "crash": 2,
    "tokens": 1,
    "storm": 1,
    "flush": 1,
}
"""What happens beside the kills, by weight; nothing as often as all of it together."""
METHODS: Final = ("event.offline.get", "event.offline.clear", "event.offline.error", "event.offline.list", "batch")
TROUBLE: Final = ("reset", "html", "truncated", "wrong_types", "error", "empty")
MODULES: Final = "tests.faults.chains,tests.faults.bulk_chains"
"""Each change runs through both: chains and chunks."""
POINTS: Final = (
    "poll.leased",
    "poll.opened",
    "dispatch.started",
    "step.passed",
    "chunk.begun",
    "chunk.handled",
    "chunk.ended",
    "outcome.settleable",
    "settle.leased",
    "settle.looked",
    "settle.before_clear",
    "settle.before_error",
    "settle.before_end",
    "tokens.saved",
)


@fault(
    39,
    "random mix",
    plan=Plan(workers=2, objects=500, variables={FUSED: "0.5", "B24_PIPELINES": MODULES}),
    repeats=None,
    overlap=True,
    by_chance=True,
    drain_seconds=240,
)
def random_mix(stage: Stage) -> None:
    """500 objects, 20 changes a second, two beats; every second something is killed, and often more happens."""
    minutes = float(os.environ.get(MINUTES, "1"))
    stage.settle_some()
    stage.beats.append(stage.new_beat("beat2").start())
    stage.control.start_traffic(rate=CHANGES_A_SECOND, seed=stage.seed)
    began = time.monotonic()
    storms: dict[int, float] = {}
    turn = 0
    while time.monotonic() - began < minutes * 60:
        turn += 1
        _kill_one(stage)
        if stage.rng.random() < 0.5:
            _one_fault(stage, storms)
        for storm in [one for one, until in storms.items() if until < time.monotonic()]:
            stage.control.disarm(storm)
            del storms[storm]
        time.sleep(max(0.0, turn - (time.monotonic() - began)))
        stage.revive()
    counted = stage.control.stop_traffic()
    stage.control.disarm()
    stage.disarm()
    stage.journal.tell_nothing()
    kinds = {kind: sum(1 for one in stage.injected if one.split()[0] == kind) for kind in ("kill", *KINDS)}
    stage.tell(f"seed {stage.seed}: {counted['count']} changes in {minutes:g} min, {kinds}")
    stage.tell(f"{stage.control.state()['records']} records wait when the traffic ends")

    def drained() -> bool:
        # A worker whose children were killed while it started gives up a little later.
        stage.revive()
        return stage.empty()

    Gauges(stage).until(
        drained, "the queue is empty: nothing free, reserved or nacked", standstill_seconds=STANDSTILL_SECONDS
    )
    found = compare(stage.control.objects(since_changes=True), stage.runtime.mirror.rows(PORTAL))
    stage.tell(f"mirror and portal compared: {found.compared} objects")
    wrong = [*found.missing, *found.stale, *found.extra]
    stage.expect(not wrong, f"the mirror is not the portal: {len(wrong)} objects, {found}"[:500])


def _kill_one(stage: Stage) -> None:
    """SIGKILL to one child of a pool, now and then to a whole worker, or to one of the two beats."""
    what = stage.rng.choices(["child", "worker", "beat"], [14, 3, 1])[0]
    if what == "beat":
        stage.rng.choice(stage.beats).kill()
    elif what == "worker":
        stage.rng.choice(stage.workers).kill()
    else:
        with suppress(psutil.Error, ProcessLookupError, IndexError):
            children = psutil.Process(stage.rng.choice(stage.workers).pid).children()
            os.kill(stage.rng.choice(sorted(one.pid for one in children)), signal.SIGKILL)
    stage.noted(f"kill of a {what}")


def _one_fault(stage: Stage, storms: dict[int, float]) -> None:
    rng, control = stage.rng, stage.control
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    method = rng.choice(METHODS)
    more = ""
    if kind == "flush":
        stage.redis.flushall()
    elif kind == "answer":
        more = f"{rng.choice(TROUBLE)} of {method}"
        control.fault(method, more.split()[0], stage=rng.choice(["before", "after"]), times=rng.randint(1, 3))
    elif kind == "late":
        control.fault(rng.choice(["event.offline.clear", "event.offline.error"]), "late", seconds=2.5, times=1)
    elif kind == "twice":
        control.fault(rng.choice(METHODS), "twice", times=1)
    elif kind == "steal":
        control.steal(connector=CONNECTOR, count=rng.randint(1, 5))
    elif kind == "tokens":
        control.expire_tokens()
    elif kind == "storm":
        seconds = rng.uniform(2, 6)
        storms[control.fault("*", "error", status=503, code="QUERY_LIMIT_EXCEEDED")] = time.monotonic() + seconds
    elif kind == "handler":
        stage.journal.tell(rng.choice(["fail", "kill", "kill_after", "slow", "whole"]), 0.5, times=rng.randint(1, 8))
    else:
        stage.arm(rng.choice(POINTS))
    stage.noted(f"{kind} {more}".rstrip())
