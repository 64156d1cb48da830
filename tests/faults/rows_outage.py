"""Row 20, at length: the portal is away for an hour, and comes back to a deployment that nobody touched."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until
from tests.support.ports import free_port

SCALE = 0.03
HOUR_SECONDS = 3600 * SCALE
"""An hour at the scale of the timers: 108 s."""
PARTS = 3


@fault(
    20,
    "the portal is down for an hour",
    plan=Plan(workers=2, scale=SCALE, variables={"B24_MAX_ATTEMPTS": "1", "B24_OBJECT_CACHE_TTL_SECONDS": "1"}),
    drain_seconds=240,
)
def down_for_an_hour(stage: Stage) -> None:
    """Refused connections, then 502, then silence. One counted failure would be nacked, so none may be counted.

    What was read in bulk is good for a second only: runs that had begun call the portal themselves, and find it gone.
    """
    stage.settle_some()
    processes = [one.pid for one in (*stage.workers, *stage.beats)]
    lost = stage.control.fault("event.offline.get", "reset", stage="after", times=1, where={"error": "0"})
    stage.change(5, "crm_contact")
    wait_until(lambda: stage.control.fired(lost), "records are reserved that nobody knows of")
    stage.journal.tell("slow", 0.4)
    effects = stage.journal.count("effect")
    stage.change(60)
    wait_until(lambda: stage.journal.count("effect") >= effects + 6, "half of a batch has run", 90)
    _refused(stage)
    stage.control.expire_tokens()
    _silenced(stage, "502 of portal and authorization server", kind="html")
    stage.expect(stage.runtime.store.portals.get(PORTAL).state == "paused", "the portal is paused while it is away")
    _silenced(stage, "no answer", kind="hang", seconds=20.0)
    stage.journal.tell_nothing()
    stage.change(10)
    stage.noted("it is back")
    wait_until(stage.empty, "all drains without a restart", 150)
    stage.expect(processes == [one.pid for one in (*stage.workers, *stage.beats)], "nothing was started again")
    stage.expect(all(one.alive for one in (*stage.workers, *stage.beats)), "nothing died")
    nobody_must_act(stage)


def _refused(stage: Stage) -> None:
    """Nothing listens at the portal's address."""
    endpoint = stage.runtime.store.portals.get(PORTAL).client_endpoint
    stage.move(f"http://127.0.0.1:{free_port()}/rest/")
    stage.noted("connections are refused")
    _pass(stage)
    stage.move(endpoint)


def _silenced(stage: Stage, what: str, **plan: object) -> None:
    """Every call meets the same trouble, for a third of the hour."""
    fault_id = stage.control.fault("*", **plan)
    stage.noted(what)
    _pass(stage)
    stage.tell(f"{what}: {stage.control.fired(fault_id)} calls in {HOUR_SECONDS / PARTS:.0f} s")
    stage.expect(stage.control.fired(fault_id), f"somebody called meanwhile: {what}")
    stage.control.disarm(fault_id)


def _pass(stage: Stage) -> None:
    """A third of the hour; people go on working in the portal, and nothing is acknowledged."""
    cleared = len(stage.history("cleared"))
    until = time.monotonic() + HOUR_SECONDS / PARTS
    while time.monotonic() < until:
        stage.change(1)
        time.sleep(1)
    # A call that was under way when it went down may have been executed.
    more = len(stage.history("cleared")) - cleared
    stage.expect(more <= 50, f"{more} records were cleared by a portal that is down")


def nobody_must_act(stage: Stage) -> None:
    """`status` has nothing to say: no alarm that did not clear itself, nothing failed, dead-lettered or nacked."""
    reply = subprocess.run(
        [sys.executable, "-m", "b24offline", "status"],
        env=stage.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    stage.expect(reply.returncode == 0, f"status calls a person: {reply.stdout[-600:]} {reply.stderr[-600:]}")
    stage.expect("must act" not in reply.stdout, "status names nobody")
    stage.expect(stage.runtime.store.portals.get(PORTAL).state == "active", "the portal is active again")
    stage.expect(not stage.runtime.store.dead_letters.count(PORTAL), "no dead letter")
    failed = stage.counters.get("runs_failed", 0)
    stage.expect(failed == 0, f"{failed} runs failed for what was the portal's fault")
    stage.expect(not stage.history("nacked"), "nothing was nacked")
