"""Row 38: a version whose ledger has another schema, before and after the ledger was reset for it. Row 56: a version
that upgrades the store."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import closing

import psutil

from b24offline.config import Timers
from b24offline.ledger import reset_ledgers
from b24offline.store import schema as store_schema
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


def _upgrade_store(stage: Stage, step: str) -> CeleryProcess:
    """Start a worker of the next version beside the old one, while that one works. Return it."""
    new = stage.new_worker("next", {next_version.STORE_VARIABLE: step}).start()
    wait_until(lambda: _store_version(stage) == next_version.NEXT_STORE, "the store is upgraded", 60)
    stage.noted(f"the store is upgraded by a step that {step}")
    return new


def _store_version(stage: Stage) -> int:
    with stage.runtime.store.engine.connect() as connection:
        return store_schema.version_of(connection)


def _work_of(stage: Stage, worker: CeleryProcess, done: int) -> bool:
    """Whether handlers of this worker had an effect lately: in the journal after so many lines."""
    children = {child.pid for child in psutil.Process(worker.pid).children(recursive=True)}
    spans = [json.loads(line) for line in stage.journal.lines()[done:]]
    return any(span.get("pid") in children for span in spans)


@fault(56, "the store is upgraded by a step that only adds", plan=ONE, drain_seconds=120)
def additive(stage: Stage) -> None:
    """Both versions work on it, and so does an old one that starts later."""
    stage.settle_some()
    [old] = stage.workers
    stage.journal.tell("slow", 0.5)
    stage.change(20)
    stage.workers.append(_upgrade_store(stage, next_version.ADDS))
    wait_until(lambda: "ready." in stage.workers[1].log_tail(20_000), "the new one is ready", 60)
    late = stage.new_worker("late").start()
    stage.workers.append(late)
    wait_until(lambda: "ready." in late.log_tail(20_000), "an old one starts on the newer store", 60)
    done = len(stage.journal.lines())
    for worker, entity in zip(stage.workers, ("crm_contact", "crm_company", "crm_lead"), strict=True):
        stage.change(20, entity)
        wait_until(lambda worker=worker: _work_of(stage, worker, done), "each of them works", 60)
    stage.journal.tell_nothing()
    wait_until(stage.empty, "all is settled", 90)
    stage.expect(old.alive, "the old one goes on")
    stage.expect(all(worker.alive for worker in stage.workers), "nobody ended")


@fault(56, "the store is upgraded so that the old version must end", plan=ONE, drain_seconds=120)
def breaking(stage: Stage) -> None:
    """The old one ends before it takes more messages than it runs, and starts no more; the new one does the rest."""
    stage.settle_some()
    [old] = stage.workers
    stage.journal.tell("slow", 0.5)
    stage.change(20)
    stage.change(20, "crm_contact")
    began = time.monotonic()
    stage.workers = [_upgrade_store(stage, "breaks")]
    wait_until(lambda: not old.alive, "the old one ends", 60)
    stage.tell(f"the old version ended {time.monotonic() - began:.1f} s after the new one was started")
    stage.expect("Start the newer program again" in old.log_tail(20_000), f"it says the way out: {old.log_tail(500)}")
    late = stage.new_worker("late").start()
    wait_until(lambda: not late.alive, "an old one does not start", 60)
    stage.expect("cannot start" in late.log_tail(), f"it says so: {late.log_tail(500)}")
    stage.change(20, "crm_company")
    changed = time.monotonic()
    stage.journal.tell_nothing()
    wait_until(stage.empty, "all is settled", 90)
    stage.tell(f"settled {time.monotonic() - changed:.1f} s later; a settle that is lost takes {SETTLE_DUE:.1f} s")


SETTLE_DUE = Plan().scale * Timers().settle_due_seconds
