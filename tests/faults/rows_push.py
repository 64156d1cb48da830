"""Row 60: messages of a portal meet a receiver that dies, or a ledger that is away; row 40 for what makes up for that.

A signal is a hint, and is lost: polls go on at a ceiling. An installation comes once, and may not be lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from b24offline import failpoints
from b24offline.config import DEFAULT_LANE
from tests.faults.row import PATIENCE, UNEXPECTED, Plan, fault
from tests.faults.rows_guards import without
from tests.faults.stage import PORTAL, Stage, wait_until
from tests.support.push_process import PushProcess
from tests.support.waiting import comes

CEILING_SECONDS = 8.0
VARIABLES = {"B24_POLL_INTERVAL_MAX_SECONDS": "2", "B24_PUSH_IDLE_SECONDS": str(CEILING_SECONDS)}
SIGNALLED = Plan(variables=VARIABLES)
RESUMED_SECONDS = 75.0
"""After the wait of a stored installation the next look for it."""


class Receiver(PushProcess):
    """May lack a guard, as the workers."""

    module = "tests.faults.receiver"

    def start_for(self, stage: Stage) -> None:
        """Start it, able to die at a failpoint."""
        self.start(stage.variables, **{failpoints.VARIABLE: str(stage.crashes)})

    def dies(self, stage: Stage, point: str) -> None:
        """Wait until it has died at a failpoint, and note it."""
        wait_until(self.ended, f"the receiver dies at {point}")
        (stage.crashes / f"{point}.fired").unlink()
        stage.noted(f"SIGKILL of the receiver at {point}")


@contextmanager
def _killed_at_the_end(receiver: Receiver) -> Iterator[Receiver]:
    try:
        yield receiver
    finally:
        receiver.kill()


def _signalled(stage: Stage) -> Receiver:
    """Start a receiver beside the deployment, and wait until the portal's signals are heard."""
    receiver = stage.borrow(_killed_at_the_end(Receiver(stage.folder)))
    for variables in (stage.variables, stage.environ):
        variables.update(receiver.variables)
    receiver.start_for(stage)
    stage.kill()
    stage.workers = [stage.new_worker(f"w{n}-signalled").start() for n in range(len(stage.workers))]
    wait_until(lambda: "ONOFFLINEEVENT" in {one["event"] for one in stage.control.state()["bindings"]}, "bound", 60)
    stage.change(2)
    wait_until(lambda: "application token noted" in receiver.log, "the portal has proved itself", 60)
    stage.settle_some()
    lanes, shorter = stage.services.lanes, float(VARIABLES["B24_POLL_INTERVAL_MAX_SECONDS"])
    wait_until(lambda: lanes.signals().heard_ms, "signals are heard")
    wait_until(lambda: lanes.interval_seconds(DEFAULT_LANE) > shorter, "the portal is polled at the ceiling", 90)
    return receiver


def _found_at_the_ceiling(stage: Stage, since: float) -> None:
    # Where the guard is off the drain and the judge say so.
    if comes(stage.empty, CEILING_SECONDS * PATIENCE):
        stage.tell(f"found and settled {time.monotonic() - since:.1f} s after the signal that was lost")


def _killed_before_waking(stage: Stage) -> None:
    receiver = _signalled(stage)
    stage.arm("push.wake")
    since = time.monotonic()
    stage.change(10)
    receiver.dies(stage, "push.wake")
    _found_at_the_ceiling(stage, since)


@fault(60, "receiver killed by a signal, before it wakes", plan=SIGNALLED)
def killed_before_waking(stage: Stage) -> None:
    _killed_before_waking(stage)


@fault(60, "ledger away while a signal comes", plan=SIGNALLED, repeats=None)
def ledger_away(stage: Stage) -> None:
    _signalled(stage)
    stage.ledger_server.kill()
    failed = stage.control.state()["push"]["answers"].get("503", 0)
    since = time.monotonic()
    stage.change(10)
    wait_until(lambda: stage.control.state()["push"]["answers"].get("503", 0) > failed, "a signal is answered 503")
    stage.noted("a signal while the ledger is away")
    stage.ledger_server.start()
    stage.restart()
    _found_at_the_ceiling(stage, since)


def _killed_by_an_installation(stage: Stage, point: str) -> None:
    receiver = _signalled(stage)
    portals = stage.runtime.store.portals
    stage.control.app(removed=True)
    wait_until(lambda: portals.get(PORTAL).state == "auth_lost", "uninstalled", 90)
    stage.arm(point)
    stage.control.app(removed=False, handler=receiver.url)
    receiver.dies(stage, point)
    receiver.start_for(stage)
    began = time.monotonic()
    installed = comes(lambda: portals.get(PORTAL).state == "active", RESUMED_SECONDS * PATIENCE / 2)
    stage.expect(installed, "the installation is lost")
    if installed:
        stage.tell(f"installed {time.monotonic() - began:.0f} s after the restart")
        wait_until(lambda: stage.control.state()["bindings"], "events are bound again", 120)
        stage.change(10)


@fault(60, "receiver killed by an installation, before its answer", plan=SIGNALLED, invisible=True)
def killed_before_the_answer(stage: Stage) -> None:
    _killed_by_an_installation(stage, "push.kept")


@fault(60, "receiver killed by an installation, after its answer", plan=SIGNALLED, invisible=True)
def killed_after_the_answer(stage: Stage) -> None:
    _killed_by_an_installation(stage, "push.proving")


@without("polls beside signals", red=("lost",), drain_seconds=30, attempts=5, variables=VARIABLES)
def signals_alone(stage: Stage) -> None:
    _killed_before_waking(stage)


@without(
    "installation stored before its answer",
    "an installation that is stored after its answer",
    red=(UNEXPECTED,),
    drain_seconds=5,
    attempts=5,
    variables=VARIABLES,
)
def installation_in_memory(stage: Stage) -> None:
    _killed_by_an_installation(stage, "push.proving")
