"""Row 38: workers of two versions side by side, on one ledger whose batches they write differently."""

from __future__ import annotations

import os
import signal
import time

from b24offline.processes import CeleryProcess
from tests.faults import next_version
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

ONE = Plan(concurrency=2)
LOOKS = 6
"""Looks for orphans that are waited for: they take twice as long as an orphan must be seen."""
LEFT_ALONE = "batches of a newer version are left alone"


def _newer(stage: Stage, name: str = "next") -> CeleryProcess:
    """A worker of the next version, started. It belongs to the deployment from now on."""
    worker = stage.new_worker(name, {next_version.VARIABLE: "1"}).start()
    stage.workers.append(worker)
    return worker


def _end(stage: Stage, worker: CeleryProcess, number: int = signal.SIGTERM) -> None:
    """Ends a worker for good."""
    (os.killpg if number == signal.SIGKILL else os.kill)(worker.pid or 0, number)
    wait_until(lambda: not worker.alive, "the worker ended", 60)
    worker.kill()
    stage.workers.remove(worker)


def _adoption_looked(stage: Stage) -> None:
    """Waits until an orphan would have been adopted."""
    began = time.time()

    def looks() -> int:
        calls = stage.calls("event.offline.list")
        return sum(1 for one in calls if one["wall"] > began and ">PROCESS_ID" in str(one["params"]))

    wait_until(lambda: looks() >= LOOKS, "orphans were looked for", 90)


@fault(38, "rolling upgrade with open batches", plan=ONE, repeats=2, drain_seconds=300)
def upgraded(stage: Stage) -> None:
    """Both versions poll, dispatch, run, settle and sweep for a while; the old one is killed in its work."""
    stage.settle_some()
    [old] = stage.workers
    stage.journal.tell("slow", 0.3)
    stage.change(25)
    wait_until(lambda: stage.journal.count("effect") >= 8, "handlers of the old version run")
    _newer(stage)
    wait_until(lambda: "ready." in stage.workers[-1].log_tail(), "the new version is up", 60)
    for _ in range(40):
        stage.change(4, "crm_contact")
        if stage.kit.newer.found():
            break
        time.sleep(0.5)
    stage.expect(stage.kit.newer.found(), "a batch of the new version is open beside those of the old one")
    stage.change(10)
    _adoption_looked(stage)
    stage.expect(not stage.counters.get("batches_adopted"), "none is adopted")
    done = stage.journal.count("effect")
    stage.change(16)
    wait_until(lambda: stage.journal.count("effect") >= done + 4, "handlers run")
    _end(stage, old, signal.SIGKILL)
    stage.noted("both versions side by side, then SIGKILL of the old one")
    stage.journal.tell_nothing()
    stage.change(10, "crm_company")


def _rolled_back(stage: Stage) -> None:
    """Batches of the new version are left open by a kill, and the old version serves what comes."""
    stage.settle_some()
    [old] = stage.workers
    _end(stage, old)
    newer = _newer(stage)
    stage.journal.tell("slow", 2.0)
    deals = stage.change(20)
    wait_until(lambda: stage.journal.count("effect") >= 6, "handlers of the new version run")
    _end(stage, newer, signal.SIGKILL)
    stage.noted("SIGKILL of the new version, then the old one starts")
    stage.journal.tell_nothing()
    left = stage.kit.newer.found()
    stage.expect(left, "batches of the new version are open")
    reserved = {one["id"] for one in stage.control.records() if one["process_id"] in left}
    stage.expect(len(reserved) >= 10, f"most records of those batches are reserved: {len(reserved)}")
    stage.workers.append(stage.new_worker("again").start())
    contacts = stage.change(10, "crm_contact")
    before = stage.counters["events_acknowledged"]
    wait_until(lambda: stage.counters["events_acknowledged"] >= before + len(contacts), "what comes is settled", 90)
    stage.control.change("crm_deal", "update", ids=deals[-3:])
    _adoption_looked(stage)
    wait_until(lambda: LEFT_ALONE in stage.workers[0].log_tail(100_000), "the log says so", 60)
    still = {one["id"] for one in stage.control.records() if one["process_id"] in left}
    stage.expect(still == reserved, f"its records stay as they are: {len(still)} of {len(reserved)}")
    stage.expect(stage.kit.newer.found() == left, "its batches stay open")
    stage.expect(not stage.counters.get("batches_adopted"), "none is adopted")


@fault(38, "rollback with open batches, the new version comes back", plan=ONE, repeats=2, drain_seconds=300)
def came_back(stage: Stage) -> None:
    _rolled_back(stage)
    _newer(stage, "next-again")


@fault(38, "rollback for good, open batches given up", plan=ONE, repeats=None, drain_seconds=300)
def given_up(stage: Stage) -> None:
    _rolled_back(stage)
    number = stage.kit.newer.forget(next_version.SCHEMA)
    stage.expect(number > 0, "some are given up")
    wait_until(lambda: stage.counters.get("batches_adopted", 0) == number, "each is adopted", 120)
