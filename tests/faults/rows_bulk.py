"""Row 59: chunks of a bulk pipeline die between any two arrows, fail in part or whole, and hold an event that kills."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import partial
from typing import Final

import psutil

from tests.faults.journal import COPIES
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage
from tests.support.waiting import wait_until

BULK: Final = {"B24_PIPELINES": "tests.faults.bulk_chains"}
PLAN: Final = Plan(variables=BULK)
CHUNK: Final = 10
"""As in `tests.faults.bulk_chains`, which only a worker imports."""


def _dies_at(stage: Stage, point: str, word: str = "") -> None:
    stage.settle_some()
    with stage.unseen():
        changed = stage.change(CHUNK)  # one chunk: another one would die beside it
        for deal in changed[:3] if word else ():
            stage.journal.tell(word, name=f"crm_deal {deal}", times=1)
        stage.arm(point)
    stage.await_crash(point)


for name, point, word, repeats in (
    ("begun, no event handled", "chunk.begun", "", 0),
    ("all handled, the end not recorded", "chunk.handled", "", CHUNK),
    ("ended, nothing sent", "chunk.ended", "", 0),
    ("a partial answer, the end not recorded", "chunk.handled", "fail", CHUNK),
    ("a partial answer, the retries not sent", "chunk.ended", "fail", 0),
    ("failed whole, not taken apart", "chunk.handled", "whole", CHUNK),
    ("failed whole, taken apart, nothing sent", "chunk.ended", "whole", CHUNK),
    ("handed out, not published", "dispatch.started", "", 0),
    ("settling begun", "settle.leased", "", 0),
):
    fault(59, f"chunk: {name}", plan=PLAN, repeats=repeats)(partial(_dies_at, point=point, word=word))


def _child_dies(stage: Stage, word: str) -> None:
    """In the middle of a chunk: some of its events have had their effect, others not."""
    stage.settle_some()
    with stage.unseen():
        changed = stage.change(CHUNK)
        stage.journal.tell(word, name=f"crm_deal {changed[CHUNK // 2]}", times=1)
    wait_until(lambda: "exited prematurely" in stage.workers[0].log_tail(60000), "a child died")
    stage.noted(f"SIGKILL of a child: {word}")


for word in ("kill", "kill_after"):
    fault(59, f"chunk: {word} in the middle", plan=PLAN, repeats=CHUNK)(partial(_child_dies, word=word))


@fault(59, "chunk: worker group, chunks running", plan=PLAN, repeats=3 * CHUNK)
def whole_group(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.1)
    stage.begin(3 * CHUNK, CHUNK // 2)
    stage.kill()
    stage.noted("SIGKILL of the worker's group")
    stage.journal.tell_nothing()
    stage.restart()


@fault(59, "chunk: one event of 20 kills, every time", plan=PLAN, repeats=CHUNK)
def poison(stage: Stage) -> None:
    """It fails alone after its crash budget; those that were beside it are acknowledged."""
    one_kills(stage)
    stage.journal.tell_nothing()


def one_kills(stage: Stage) -> None:
    """One event of two chunks kills whoever handles it."""
    stage.settle_some()
    with stage.unseen():
        changed = stage.change(2 * CHUNK)
        stage.journal.tell("kill", name=f"crm_deal {changed[0]}")
    stage.noted("one event of 20 kills its process")
    wait_until(lambda: stage.counters.get("events_nacked", 0) >= 1, "it fails after its budget", 120)
    stage.expect(stage.counters["events_nacked"] == 1, "no other event fails")
    stage.expect(stage.counters["events_acknowledged"] >= 4 + 2 * CHUNK - 1, "the others are acknowledged meanwhile")


@fault(59, "chunk: one event of 20 fails its chunk, three times", plan=PLAN, repeats=2 * CHUNK)
def fails_whole(stage: Stage) -> None:
    """The exception of a whole chunk counts for none of its events; alone it is that event's own error."""
    stage.settle_some()
    with stage.unseen():
        changed = stage.change(2 * CHUNK)
        stage.journal.tell("whole", name=f"crm_deal {changed[3]}", times=3)
    stage.noted("one event of 20 fails its chunk")
    wait_until(lambda: stage.counters["events_acknowledged"] >= 4 + 2 * CHUNK, "all are acknowledged", 90)
    stage.expect(not stage.counters.get("events_nacked"), "nothing is nacked")


@fault(59, "chunk: three events of 20 fail for good", plan=PLAN)
def some_fail(stage: Stage) -> None:
    stage.settle_some()
    with stage.unseen():
        for deal in stage.change(2 * CHUNK)[:3]:
            stage.journal.tell("permanent", name=f"crm_deal {deal}", times=1)
    stage.noted("an answer names three events of a chunk")
    wait_until(lambda: stage.counters.get("events_nacked", 0) >= 3, "they are nacked", 120)
    stage.expect(stage.counters["events_nacked"] == 3, "no other event fails")


@fault(59, "chunk: every message three times", plan=Plan(variables={**BULK, COPIES: "3"}))
def many_copies(stage: Stage) -> None:
    for _ in range(4):
        stage.change(2 * CHUNK)
        time.sleep(0.3)
    wait_until(stage.empty, "all is settled", 90)
    stage.expect(stage.journal.copies > 0, "copies were sent")
    stage.noted(f"{stage.journal.copies} copies of messages")


@fault(59, "chunk: one object in all of a batch", plan=PLAN)
def one_object(stage: Stage) -> None:
    """Add, update and delete of each of a few objects: never two of one object in a chunk, nor beside each other."""
    stage.settle_some()
    with stage.unseen():
        for _ in range(5):
            hot = stage.change(3, "crm_contact", "add")
            stage.control.change("crm_contact", "update", ids=hot)
            stage.control.change("crm_contact", "delete", ids=hot[:1])
    stage.noted("40 changes of 15 objects in one page")
    wait_until(stage.empty, "all is settled", 90)


@fault(59, "chunk: the ledger is lost meanwhile", plan=PLAN, repeats=None, overlap=True)
def ledger_lost(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.1)
    stage.begin(2 * CHUNK, 3)
    stage.redis.flushall()
    stage.noted("FLUSHALL while chunks run")
    stage.journal.tell_nothing()


@fault(
    59,
    "chunk: children die every 0.3 s",
    plan=Plan(variables=BULK, workers=2),
    repeats=None,
    by_chance=True,
    drain_seconds=240,
)
def children_die(stage: Stage) -> None:
    """At random, while chunks run, fail in part and fail whole."""
    stage.settle_some()
    stage.control.start_traffic(rate=15, seed=stage.seed, hot=20)
    for turn in range(40):
        if turn % 8 == 0:
            word = stage.rng.choice(["fail", "whole", "slow", "kill_after"])
            stage.journal.tell(word, 0.05, times=stage.rng.randint(1, 5))
        with suppress(psutil.Error, ProcessLookupError, IndexError):
            children = psutil.Process(stage.rng.choice(stage.workers).pid).children()
            os.kill(stage.rng.choice(sorted(one.pid for one in children)), signal.SIGKILL)
        time.sleep(0.3)
    stage.control.stop_traffic()
    stage.journal.tell_nothing()
    stage.noted("40 times SIGKILL of a child")
