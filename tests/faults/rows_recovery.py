"""Rows 48 and 57: reserved records that the ledger does not know are found soon, whatever uses the rate up."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

from b24offline.errors import RateLimited
from tests.faults.row import PATIENCE, Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

SCALE = 0.3
"""Long enough that two sightings of an orphan, as without an unanswered call, take longer than what is allowed."""
LEASE_SECONDS, LATE_SECONDS, LOOK_SECONDS = (SCALE * seconds for seconds in (75.0, 100.0, 600.0))
RUN_SECONDS, SETTLE_SECONDS = 10.0, 30.0
"""From a lost answer to the run of its events and to their acknowledgement; after a kill, both after the lease."""
SLOWLY = Plan(scale=SCALE)


def _recovers(stage: Stage, since: float, effects: int, waits: float = 0.0) -> None:
    """Wait for the effects and for an empty queue; each within its time, on a machine as slow as may be."""
    for what, done, seconds in (
        ("run", lambda: stage.journal.count("effect") >= effects, RUN_SECONDS),
        ("acknowledged", stage.empty, SETTLE_SECONDS),
    ):
        wait_until(done, what)
        took = time.monotonic() - since - waits
        stage.tell(f"{what} after {took:.1f} s{f' and the {waits:g} s of the lease' * bool(waits)}")
        stage.expect(took <= seconds * PATIENCE, f"{what} after {took:.0f} s, allowed are {seconds * PATIENCE:.0f}")
    stage.expect(stage.counters.get("batches_adopted", 0) == 1, "adopted once")


@fault(57, "reserving answer lost", plan=SLOWLY)
def answer_lost(stage: Stage) -> None:
    stage.settle_some()
    before = stage.journal.count("effect")
    with stage.meets("event.offline.get", "reset", stage="after", times=1, where={"error": "0"}):
        stage.change(10)
        wait_until(lambda: any(row["process_id"] for row in stage.control.records()), "reserved")
        lost = time.monotonic()
    _recovers(stage, lost, before + 10)


@fault(57, "poller killed after the portal has reserved", plan=SLOWLY)
def poller_killed(stage: Stage) -> None:
    stage.settle_some()
    before = stage.journal.count("effect")
    stage.change(10)
    stage.kill_at_call("event.offline.get", "after")
    _recovers(stage, time.monotonic(), before + 10, LEASE_SECONDS)


@fault(57, "reserving call executed 100 s late", plan=SLOWLY)
def executed_late(stage: Stage) -> None:
    stage.settle_some()
    before = stage.journal.count("effect")
    late = stage.control.fault("event.offline.get", "late", seconds=LATE_SECONDS, times=1, where={"error": "0"})
    wait_until(lambda: stage.control.fired(late), "a reserving call is on its way")
    stage.noted("a reserving call that is late")
    with stage.unseen():
        stage.change(10)
        wait_until(lambda: any(row["process_id"] for row in stage.control.records()), "executed late")
        executed = time.monotonic()
    _recovers(stage, executed, before + 10)


CALLERS, PAGES = 16, 20


@fault(
    48,
    "orphans behind 20 pages, the rate used up",
    plan=Plan(scale=SCALE, variables={"B24_REQUESTS_PER_SECOND": "2"}),
    drain_seconds=600,
)
def rate_used_up(stage: Stage) -> None:
    """Sixteen callers take each request that runs and polls may make; a thousand records are reserved by nobody."""
    stage.settle_some()
    over = threading.Event()
    callers = [threading.Thread(target=_call, args=(stage, over), daemon=True) for _ in range(CALLERS)]
    with stage.unseen():
        changed = stage.control.change("crm_deal", "add", count=PAGES * 50)
        ids = [row["id"] for row in stage.control.records()]
        for start in range(0, len(ids), 50):
            stage.control.steal(connector="b24offline", ids=ids[start : start + 50])
        for caller in callers:
            caller.start()
        began = time.monotonic()
    stage.noted(f"{len(changed)} reserved records that no batch has, and {CALLERS} callers")
    try:
        wait_until(
            lambda: stage.counters.get("batches_adopted", 0) >= PAGES, "all are adopted", LOOK_SECONDS * PATIENCE
        )
        took = time.monotonic() - began
        stage.tell(f"adopted after {took:.0f} s, {took / SCALE / 60:.1f} minutes at the whole length")
        stage.expect(took <= LOOK_SECONDS, f"adopted after {took:.0f} s")
    finally:
        over.set()
        for caller in callers:
            caller.join()


def _call(stage: Stage, over: threading.Event) -> None:
    client = stage.runtime.services(PORTAL).client
    while not over.is_set():
        with suppress(RateLimited):
            client.call("profile", kind="run")
