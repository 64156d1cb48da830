"""Row 38: a version whose ledger has another schema, before and after the ledger was reset for it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing

from b24offline.ledger import reset_ledgers
from b24offline.supervisor import CeleryProcess
from tests.faults import next_version
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

ONE = Plan(concurrency=2)
WAY_OUT = "b24offline ledger reset"
MEETING_SECONDS = 5.0
"""How long a version that must not work on the ledger is left beside the other one."""


def _reset(stage: Stage) -> None:
    deleted = reset_ledgers(stage.redis, stage.runtime.config.redis_key_prefix)
    stage.expect(deleted, "the reset deletes something")


def _adopted(stage: Stage) -> None:
    """Wait until the next version works on a ledger of its own."""
    wait_until(lambda: stage.counters.get("batches_adopted", 0), "what was open is adopted", 120)
    found = stage.redis.hget(f"{stage.services.ledger.stem}:fencing", "schema")
    stage.expect(found == str(next_version.SCHEMA), f"the ledger has the next schema: {found}")


def _freeze(stage: Stage, worker: CeleryProcess) -> None:
    """Stop a worker, but not inside a transaction: on SQLite the others could not write until it goes on."""

    def stopped() -> bool:
        os.killpg(worker.pid or 0, signal.SIGSTOP)
        with closing(sqlite3.connect(stage.runtime.store.engine.url.database or "", timeout=0.5)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.killpg(worker.pid or 0, signal.SIGCONT)
                return False
        return True

    wait_until(stopped, "the worker stands still outside of a transaction")


def _busy(stage: Stage) -> CeleryProcess:
    """Some work goes through, and more is open. Return the worker."""
    stage.settle_some()
    [old] = stage.workers
    stage.journal.tell("slow", 2.0)
    stage.change(20)
    wait_until(lambda: stage.journal.count("effect") >= 6, "handlers of the old version run")
    return old


@fault(38, "another ledger schema, upgraded by a reset", plan=ONE, repeats=None, drain_seconds=300)
def upgraded(stage: Stage) -> None:
    """The next version refuses to start beside open work of the old one, and starts after the reset."""
    old = _busy(stage)
    new = stage.new_worker("next", {next_version.VARIABLE: "1"}).start()
    wait_until(lambda: not new.alive, "the next version refuses to start", 60)
    stage.expect(WAY_OUT in new.log_tail(), f"it names the way out: {new.log_tail(500)}")
    stage.expect(old.alive, "the old version goes on")
    old.kill()
    stage.workers.remove(old)
    _reset(stage)
    stage.noted("SIGKILL of the old version, reset, start of the next one")
    stage.workers.append(new.start())
    stage.journal.tell_nothing()
    stage.change(10, "crm_contact")
    _adopted(stage)


@fault(38, "another ledger schema, met while running", plan=ONE, repeats=None, drain_seconds=300)
def met(stage: Stage) -> None:
    """The old version stands still while the ledger is reset and the next one starts; then it is refused."""
    old = _busy(stage)
    _freeze(stage, old)
    _reset(stage)
    stage.noted("the old version stands still, reset, start of the next one")
    stage.workers.append(stage.new_worker("next", {next_version.VARIABLE: "1"}).start())
    stage.journal.tell_nothing()
    _adopted(stage)
    stage.change(10, "crm_contact")
    os.killpg(old.pid or 0, signal.SIGCONT)
    stage.noted("the old version goes on beside the next one")
    wait_until(lambda: WAY_OUT in old.log_tail(100_000), "it is refused, and says the way out", 60)
    time.sleep(MEETING_SECONDS)
    stage.change(5, "crm_company")
    old.kill()
    stage.workers.remove(old)
