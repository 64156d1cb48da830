"""Rows 12 and 26 to 29: the ledger is emptied, messages are doubled, purged and late."""

from __future__ import annotations

import os
import signal
import time
from functools import partial

import kombu
from celery import Celery

from b24offline.contract import QUEUES, STEP_PREFIX
from b24offline.monitoring import LATE_SECONDS, IssueCode, portal_status
from b24offline.supervisor import CeleryProcess
from tests.faults.brokers import RabbitBroker
from tests.faults.journal import COPIES, VISIBILITY
from tests.faults.row import Plan, fault
from tests.faults.rows_broker_away import revive
from tests.faults.stage import PORTAL, Stage, wait_until


@fault(12, "FLUSHALL idle", repeats=None, overlap=True)
def flushed_idle(stage: Stage) -> None:
    stage.settle_some()
    stage.redis.flushall()
    stage.noted("FLUSHALL")
    stage.change(10)


@fault(12, "FLUSHALL mid-batch", repeats=None, overlap=True)
def flushed_in_batch(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.2)
    stage.begin(20, 4)
    stage.redis.flushall()
    stage.noted("FLUSHALL")
    stage.journal.tell_nothing()


def _flushed_during(stage: Stage, match: str, when: str, **where: str) -> None:
    """Empty the ledger while a call is under way; then the object whose run failed, if one did, changes again."""
    stage.settle_some()
    fails = match != "event.offline.clear"
    with stage.unseen():
        deals = stage.change(10)
        if fails:
            stage.journal.tell("permanent", name=f"crm_deal {deals[0]}", times=1)
    held = stage.control.fault(match, "hold", stage=when, times=1, seconds=2, where=where)
    wait_until(lambda: stage.control.held(held), f"{match} is under way", 120)
    stage.redis.flushall()
    stage.noted("FLUSHALL")
    stage.control.disarm(held)
    if fails:
        stage.control.change("crm_deal", "update", ids=[deals[0]])


for name, call in (
    ("settle", {"match": "event.offline.clear", "when": "before"}),
    ("report", {"match": "event.offline.error", "when": "before"}),
    ("redrive", {"match": "event.offline.get", "when": "after", "error": "1"}),
):
    fault(12, f"FLUSHALL mid-{name}", repeats=None, overlap=True, plan=Plan(variables={"B24_MAX_ATTEMPTS": "1"}))(
        partial(_flushed_during, **call)
    )


@fault(12, "FLUSHALL every 7 s with kills", repeats=None, overlap=True, plan=Plan(workers=2), drain_seconds=240)
def flushed_often(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    stage.control.start_traffic(rate=8, seed=stage.seed)
    for turn in range(4):
        time.sleep(7)
        stage.redis.flushall()
        stage.noted("FLUSHALL")
        if turn % 2:
            stage.rng.choice(stage.workers).kill()
            stage.noted("SIGKILL of a worker")
            stage.restart()
    stage.control.stop_traffic()
    stage.journal.tell_nothing()


def _some_companies_fail(stage: Stage, *, times: int) -> None:
    with stage.unseen():
        for company in stage.change(3, "crm_company"):
            stage.journal.tell("fail", name=f"crm_company {company}", times=times)


def _copies(stage: Stage, copies: int) -> None:
    stage.noted(f"every message {copies} times")
    stage.change(20)
    stage.change(10, "crm_lead")
    _some_companies_fail(stage, times=1)
    stage.change(10)
    wait_until(stage.empty, "all settles", 150)
    stage.expect(stage.journal.copies >= (copies - 1) * 80, f"only {stage.journal.copies} copies were sent")


for copies, name, seconds in ((2, "twice", 150), (5, "five times", 240)):
    plan = Plan(variables={COPIES: str(copies)})
    fault(26, f"every message {name}", plan=plan, drain_seconds=seconds)(partial(_copies, copies=copies))


@fault(27, "task longer than the visibility timeout", plan=Plan(variables={VISIBILITY: "1"}), brokers=("valkey",))
def invisible_for_long(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 4, times=4)
    stage.change(10)
    stage.noted("tasks of 4 s, visibility timeout of 1 s")
    _some_companies_fail(stage, times=4)
    wait_until(stage.empty, "all settles", 150)
    long = sum(1 for one in stage.evidence().spans if one.end and one.end - one.start >= 4)
    stage.expect(long == 4, f"{long} tasks took longer than the timeout")


def _longer_than_acknowledged(stage: Stage, timeout_seconds: float) -> None:
    """Handlers that run for longer, messages that wait behind them for longer, and a retry that is due after longer."""
    if isinstance(stage.broker, RabbitBroker):
        stage.broker.time_out_consumers(timeout_seconds)
        stage.kill()
        stage.restart()
    stage.settle_some()
    stage.journal.tell("slow", 2 * timeout_seconds, times=5)
    stage.change(12)
    stage.noted(f"a broker that waits {timeout_seconds:g} s for an acknowledgement")
    _some_companies_fail(stage, times=4)
    revive(stage)
    stage.expect(_timed_out(stage), "the broker closed a channel")


def _timed_out(stage: Stage) -> bool:
    return any("delivery acknowledgement on channel" in worker.log_tail(1_000_000) for worker in stage.workers)


for name, plan in (
    ("message unacknowledged for longer than the consumer timeout", Plan()),
    ("the same, classic queues", Plan(variables={"B24_RABBITMQ_QUEUES": "classic"})),
):
    fault(27, name, brokers=("rabbitmq",), plan=plan)(partial(_longer_than_acknowledged, timeout_seconds=2))


def _remote(stage: Stage) -> Celery:
    app = Celery("faults", broker=stage.broker.url)
    app.conf.control_exchange = "b24offline"
    return app


def _revoke(stage: Stage, *, terminate: bool) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 30, times=3)
    stage.change(20)
    with _remote(stage) as app:

        def step_ids(kind: str, name: str) -> list[str]:
            reply = getattr(app.control.inspect(timeout=3), kind)() or {}
            return [task["id"] for tasks in reply.values() for task in tasks if name in task["name"]]

        def handlers() -> list[str]:
            return found if len(found := step_ids("active", "chains.work")) == 3 else []

        running = wait_until(handlers, "three handlers run", 60)
        # What runs is not touched by a revocation alone, so that there must be some that wait: any step of a chain.
        waiting = wait_until(lambda: step_ids("reserved", STEP_PREFIX), "messages wait in the worker", 20)
        app.control.revoke([*running, *waiting], terminate=terminate, signal="SIGKILL")
    stage.noted(f"{len(running)} running and {len(waiting)} waiting tasks revoked{', terminated' if terminate else ''}")


fault(28, "revoked while waiting and running")(partial(_revoke, terminate=False))
fault(28, "revoked and terminated")(partial(_revoke, terminate=True))


@fault(28, "purged", drain_seconds=200)
def purged(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.5)
    stage.change(30)
    before = stage.journal.count("effect")
    wait_until(lambda: stage.journal.count("effect") > before, "handlers run")
    number = 0
    with kombu.Connection(stage.broker.url) as connection, connection.channel() as channel:
        for name in QUEUES:
            number += kombu.Queue(name, kombu.Exchange(name), routing_key=name)(channel).purge()
    stage.noted(f"{number} messages purged")
    stage.expect(number, "there was something to purge")
    stage.journal.tell_nothing()


@fault(29, "two beats")
def two_beats(stage: Stage) -> None:
    stage.beats.append(stage.new_beat("beat-2").start())
    stage.settle_some()
    wait_until(lambda: "Sending due task" in stage.beats[1].log_tail(100_000), "both beats send", 60)
    stage.noted("a second beat")
    before, began = len(stage.calls("event.offline.get")), time.monotonic()
    stage.change(10)
    time.sleep(10)
    rate = (len(stage.calls("event.offline.get")) - before) / (time.monotonic() - began)
    stage.expect(rate <= 1.5, f"{rate:.1f} reserving calls a second")


@fault(29, "beat dead for 10 intervals")
def no_beat(stage: Stage) -> None:
    stage.settle_some()
    stage.beats[0].kill()
    stage.noted("SIGKILL of beat")
    time.sleep(2)  # a tick may be under way
    polls = len(stage.calls("event.offline.get"))
    stage.change(10)
    time.sleep(10)
    stage.expect(len(stage.calls("event.offline.get")) == polls, "nobody polls without beat")
    wait_until(lambda: _alarmed(stage), "a person is told that nobody polls", LATE_SECONDS + 30)
    stage.beats[0].start()
    wait_until(lambda: not _alarmed(stage), "the alarm clears itself", 60)


def _alarmed(stage: Stage) -> bool:
    runtime = stage.runtime
    found = portal_status(runtime.store, runtime.redis, runtime.config, runtime.store.portals.get(PORTAL))
    return any(issue.code is IssueCode.NOT_POLLED for issue in found.issues)


@fault(29, "schedule file corrupt")
def corrupt_schedule(stage: Stage) -> None:
    stage.settle_some()
    stage.beats[0].kill()
    for file in stage.folder.glob("beat-schedule*"):
        file.write_bytes(os.urandom(2048))
    (stage.folder / "beat-schedule").write_bytes(os.urandom(2048))
    stage.noted("beat's schedule file is noise")
    stage.beats[0].start()
    stage.change(10)


@fault(8, "worker frozen beyond its lease", overlap=True, repeats=6, plan=Plan(workers=2))
def frozen(stage: Stage) -> None:
    """When it goes on, its leases have passed to the other worker: what it still does must not count."""
    stage.settle_some()
    stage.journal.tell("slow", 0.4)
    crashed = stage.counters.get("runs_crashed", 0)
    for _ in range(5):
        before = stage.journal.count("effect")
        stage.change(20)
        wait_until(lambda before=before: stage.journal.count("effect") >= before + 2, "handlers run")
        _signal(stage.workers[0], signal.SIGSTOP)
        stage.noted("SIGSTOP for 6 s")
        time.sleep(6)
        _signal(stage.workers[0], signal.SIGCONT)
        if stage.counters.get("runs_crashed", 0) > crashed:
            break
        # It held no lease just then, or held the mirror's lock, so that all stood still with it.
        wait_until(stage.empty, "all is settled", 90)
    stage.expect(stage.counters.get("runs_crashed", 0) > crashed, "leases of the frozen worker ran out")
    stage.journal.tell_nothing()


def _signal(process: CeleryProcess, number: int) -> None:
    os.killpg(process.pid or 0, number)
