"""Row 56: the store is upgraded while workers of the version before run, and they start again on the newer one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from b24offline.store.schema import version_of
from b24offline.supervisor import CeleryProcess
from tests.faults import next_store
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

ONE = Plan(concurrency=2)
WAY_OUT = "Start the newer program again"


def _upgraded(stage: Stage, how: str) -> CeleryProcess:
    """Start a worker of the next version beside the one that runs. Return it when the store has its tables."""

    def version() -> int:
        with stage.runtime.store.engine.connect() as connection:
            return version_of(connection)

    new = stage.new_worker("next", {next_store.VARIABLE: how}).start()
    stage.workers.append(new)
    wait_until(lambda: version() == next_store.VERSION, "the next version upgrades the store", 60)
    stage.noted(f"the store is upgraded beside the version before: {how}")
    return new


def _children(process: CeleryProcess) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for children in tasks for child in children.read_text().split()]


@fault(56, "a store upgraded by a step that only adds", plan=ONE, repeats=None, drain_seconds=200)
def added(stage: Stage) -> None:
    """Both versions work on the newer store, and the older one also after it was started again, alone."""
    stage.settle_some()
    [old] = stage.workers
    new = _upgraded(stage, next_store.ADDITIVE)
    stage.change(10)
    wait_until(stage.empty, "both versions work side by side", 90)
    for worker in (old, new):
        worker.kill()
    stage.workers.remove(new)
    old.start()
    stage.noted("SIGKILL of both, start of the older version on the newer store")
    stage.change(10, "crm_contact")
    wait_until(stage.empty, "the older version works alone", 90)
    stage.expect(old.alive, "the older version goes on")


@fault(56, "a store upgraded by a step that the version before cannot follow", plan=ONE, repeats=None)
def refused(stage: Stage) -> None:
    """A worker of the version before ends with its first new child, and refuses to start; it takes no message."""
    stage.settle_some()
    [old] = stage.workers
    _upgraded(stage, next_store.BREAKING)
    os.kill(_children(old)[0], signal.SIGKILL)
    stage.noted("SIGKILL of a child of the version before")
    wait_until(lambda: not old.alive, "the version before ends", 60)
    stage.expect(WAY_OUT in old.log_tail(100_000), "it says the way out when it ends")
    old.kill()
    old.start()
    wait_until(lambda: not old.alive, "the version before refuses to start", 60)
    stage.expect(WAY_OUT in old.log_tail(2_000), f"it says the way out at its start: {old.log_tail(500)}")
    stage.workers.remove(old)
    stage.change(10, "crm_contact")
    wait_until(stage.empty, "no message was lost to the version before", 90)
