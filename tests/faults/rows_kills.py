"""Rows 1 to 10: processes die between two arrows."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial

from b24offline.supervisor import CeleryProcess
from tests.faults.journal import FUSED, HARD_LIMIT, SOFT_LIMIT
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage
from tests.support.waiting import NotInTime, wait_until

GRACE_SECONDS = 60.0
FAILS = Plan(variables={"B24_MAX_ATTEMPTS": "1"})
"""A failure is final at once, so that a batch comes to its report soon."""
FUSED_RUNS = Plan(variables={FUSED: "1"})


def _dies_at(stage: Stage, point: str, *, some_fail: bool = False) -> None:
    if some_fail:
        _some_fail(stage)
    else:
        stage.settle_some()
    stage.arm(point)
    if not some_fail:
        stage.change(10)
    stage.await_crash(point)


for number, name, point in (
    (1, "before the reserving call", "poll.leased"),
    (3, "ledger written, not dispatched", "poll.opened"),
    (3, "handed out, not published", "dispatch.started"),
    (6, "last outcome, settle not sent", "outcome.settleable"),
):
    fault(number, name)(partial(_dies_at, point=point))
fault(5, "between two steps", repeats=1)(partial(_dies_at, point="step.passed"))
fault(5, "between two steps of a message", plan=FUSED_RUNS, repeats=1)(partial(_dies_at, point="step.passed"))
fault(6, "last outcome of a fused run, settle not sent", plan=FUSED_RUNS)(partial(_dies_at, point="outcome.settleable"))
for name, point in (
    ("before S1", "settle.leased"),
    ("after S1", "settle.looked"),
    ("before S2", "settle.before_clear"),
    ("before S3", "settle.before_error"),
    ("before S5", "settle.before_end"),
):
    fault(7, name, plan=FAILS)(partial(_dies_at, point=point, some_fail=True))


@fault(2, "reserved, ledger not written")
def reserved_not_written(stage: Stage) -> None:
    stage.settle_some()
    stage.change(10)
    stage.kill_at_call("event.offline.get", "after")
    wait_until(lambda: stage.counters.get("batches_adopted", 0), "the orphan is adopted", 90)
    stage.expect(stage.counters["batches_adopted"] == 1, "adopted once")


def _child_dies(stage: Stage, word: str) -> None:
    stage.settle_some()
    stage.journal.tell(word, times=1)
    stage.change(10)
    wait_until(lambda: "exited prematurely" in stage.workers[0].log_tail(60000), "a child died")
    stage.noted(f"SIGKILL of a child: {word}")


fault(4, "child dies before the effect")(partial(_child_dies, word="kill"))
fault(4, "child dies after the effect", repeats=1)(partial(_child_dies, word="kill_after"))
fault(4, "child dies in a fused run before the effect", plan=FUSED_RUNS)(partial(_child_dies, word="kill"))
fault(4, "child dies in a fused run after the effect", plan=FUSED_RUNS, repeats=1)(
    partial(_child_dies, word="kill_after")
)


@fault(7, "after S2", plan=FAILS)
def after_clear(stage: Stage) -> None:
    _some_fail(stage)
    stage.kill_at_call("event.offline.clear", "after")


@fault(7, "after S3", plan=FAILS)
def after_error(stage: Stage) -> None:
    _some_fail(stage)
    stage.kill_at_call("event.offline.error", "after")


def _some_fail(stage: Stage) -> None:
    """A batch of which three events fail once, with final effect: they are nacked, then run again."""
    stage.settle_some()
    with stage.unseen():
        for deal in stage.change(10)[:3]:
            stage.journal.tell("permanent", name=f"crm_deal {deal}", times=1)


@fault(8, "worker group, 50 running", plan=Plan(workers=2, concurrency=3), repeats=6)
def whole_group(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    stage.change(50, "crm_contact")
    stage.change(20)
    wait_until(lambda: stage.journal.count("effect") >= 14, "handlers run")
    stage.workers[0].kill()
    stage.noted("SIGKILL of a worker's group")
    stage.journal.tell_nothing()


@fault(8, "every worker, fused runs", plan=FUSED_RUNS, repeats=3)
@fault(8, "every worker", repeats=3)
def every_worker(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    stage.begin(25, 6)
    stage.kill()
    stage.noted("SIGKILL of all workers")
    stage.journal.tell_nothing()
    stage.restart()


@fault(8, "everything at once, five times", plan=Plan(workers=2), repeats=None, overlap=True, drain_seconds=240)
def everything_at_once(stage: Stage) -> None:
    """Workers, beats and servers together, and started again; the ledger has no file here, so it is lost each time."""
    stage.settle_some()
    stage.beats.append(stage.new_beat("beat2").start())
    stage.journal.tell("slow", 0.3)
    stage.control.start_traffic(rate=6, seed=stage.seed, hot=20)
    for turn in range(5):
        if turn % 2 == 0:
            before = stage.journal.count("effect")
            wait_until(lambda before=before: stage.journal.count("effect") > before, "handlers run", 90)
        # Every second life ends while it is still starting.
        time.sleep(stage.rng.uniform(0, 3))
        stage.kill_everything()
        stage.noted("SIGKILL of workers, beats, ledger and broker")
        stage.start_everything()
    stage.control.stop_traffic()
    stage.journal.tell_nothing()


def _ends(stage: Stage, worker: CeleryProcess) -> None:
    """By itself, or at the end of its grace, as whatever runs it would do: a worker may hang while it shuts down."""
    with suppress(NotInTime):
        wait_until(lambda: not worker.alive, "the worker ended", GRACE_SECONDS)
    if worker.alive:
        worker.kill()
        stage.tell(f"the worker did not end within {GRACE_SECONDS:g} s and was killed")


def _stopped_by(stage: Stage, number: signal.Signals) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    stage.begin(25, 4)
    [worker] = stage.workers
    os.kill(worker.pid or 0, number)
    stage.noted(f"{number.name} of the worker")
    _ends(stage, worker)
    stage.journal.tell_nothing()
    stage.restart()


fault(9, "SIGTERM")(partial(_stopped_by, number=signal.SIGTERM))
fault(9, "SIGQUIT", repeats=3)(partial(_stopped_by, number=signal.SIGQUIT))


@fault(9, "deploy restart")
def deployed(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.2)
    stage.begin(50, 4)
    following = stage.new_worker("w-next").start()
    os.kill(stage.workers[0].pid or 0, signal.SIGTERM)
    stage.workers.append(following)
    stage.noted("a new worker beside the old one, SIGTERM of the old one")
    _ends(stage, stage.workers[0])
    stage.journal.tell_nothing()


def _one_dies(stage: Stage, word: str) -> None:
    """One event of 50 always dies by ``word``: it fails after its crash budget, the others are untouched."""
    stage.settle_some()
    changed = stage.change(25)
    unlucky = f"crm_deal {changed[0]}"
    stage.journal.tell(word, name=unlucky)
    stage.control.change("crm_deal", "update", ids=[changed[0]])
    stage.noted(f"one event of 25: {word}")
    wait_until(lambda: stage.counters.get("events_nacked", 0) >= 1, "it fails after its budget", 120)
    stage.expect(stage.counters["events_acknowledged"] >= 28, "the others are acknowledged meanwhile")
    stage.journal.tell_nothing()


for name, word, plan in (
    ("killed in a fused run", "kill", FUSED_RUNS),
    ("hard time limit of a fused run", "hang", Plan(variables={HARD_LIMIT: "4", **FUSED_RUNS.variables})),
    ("killed, as by lack of memory", "kill", Plan()),
    ("segmentation fault", "segv", Plan()),
    ("sys.exit", "exit", Plan()),
    ("soft time limit", "hang", Plan(variables={SOFT_LIMIT: "3", "B24_MAX_ATTEMPTS": "2"})),
    ("hard time limit", "hang", Plan(variables={HARD_LIMIT: "4"})),
):
    fault(10, name, plan=plan)(partial(_one_dies, word=word))
