"""Rows 45 and 52: objects that the portal refuses stay alone; a nacked record may stand for a newer change."""

from __future__ import annotations

import json
import time
from typing import Final

from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

POISON: Final = 25
"""More than the open batches of a lane, each in a batch of its own."""
HEALTHY_SECONDS: Final = 30.0
"""A deal beside them is acknowledged within that: scaled waits of all steps, on a busy machine."""


@fault(52, "a nacked record stands for a newer change", plan=Plan(variables={"B24_MAX_ATTEMPTS": "1"}), repeats=1)
def nacked_record_for_newer_change(stage: Stage) -> None:
    nack_a_newer_change(stage)


def nack_a_newer_change(stage: Stage) -> None:
    """A write under a key, a failure; the nack deletes the newer record. The target takes each key once."""
    stage.settle_some()
    nack = stage.control.fault("event.offline.error", "hold", times=1, seconds=60)
    with stage.unseen():
        [unlucky] = stage.change(1, "crm_company")
        stage.journal.tell("permanent_after", name=f"crm_company {unlucky}", times=1)
    wait_until(lambda: stage.control.held(nack), "the nack is under way", 90)
    with stage.unseen():
        stage.control.change("crm_company", "update", ids=[unlucky])
        stage.noted("a change between look and nack")
        stage.control.disarm(nack)
        wait_until(lambda: stage.history("deleted_by_error"), "the nack deletes the newer record", 30)
    wait_until(stage.empty, "the nacked record is run and acknowledged", 120)
    name = ("crm_company", unlucky)
    stage.expect(
        _taken(stage, *name) == stage.evidence().objects[name], "the target that deduplicates has the last change"
    )


REFUSALS: Final = {
    "500": ("error", {"status": 500, "code": "INTERNAL_SERVER_ERROR"}),
    "garbage": ("html", {"status": 200}),
    "ACCESS_DENIED": ("error", {"status": 403, "code": "ACCESS_DENIED"}),
    "insufficient scope": ("error", {"status": 403, "code": "insufficient_scope"}),
}


def _poison(stage: Stage, refusal: str) -> None:
    """One company in each batch, more of them than batches may be open; deals change beside them."""
    stage.settle_some()
    kind, more = REFUSALS[refusal]
    in_bulk = more or {"status": 500}
    unlucky = stage.control.change("crm_company", "add", count=POISON)
    for one in unlucky:
        stage.control.fault("crm.company.get", kind, where={"id": one}, **more)
        stage.control.fault("batch/crm.company.get", "error", where={"id": one}, **in_bulk)
    stage.noted(f"{POISON} objects are refused: {refusal}")
    slowest = 0.0
    while stage.counters.get("events_nacked", 0) < POISON:
        began = time.monotonic()
        before = stage.counters.get("events_acknowledged", 0)
        stage.change(1)
        wait_until(
            lambda least=before: stage.counters.get("events_acknowledged", 0) > least, "a deal is acknowledged", 60
        )
        slowest = max(slowest, time.monotonic() - began)
    stage.tell(f"the slowest of the deals beside them took {slowest:.1f} s")
    stage.expect(slowest < HEALTHY_SECONDS, f"a healthy deal took {slowest:.1f} s")
    stage.control.disarm()


def _refused(refusal: str) -> None:
    @fault(
        45,
        f"objects refused for ever: {refusal}",
        plan=Plan(variables={"B24_BATCH_SIZE": "1", "B24_MAX_ATTEMPTS": "3"}),
        repeats=None,
        drain_seconds=200,
    )
    def refused(stage: Stage) -> None:
        _poison(stage, refusal)


for _one in REFUSALS:
    _refused(_one)


def _taken(stage: Stage, entity: str, object_id: str) -> str:
    """Return what a target has of an object that takes the first write under each key, and drops all others."""
    keys: dict[str, str] = {}
    used: set[str] = set()
    has = ""
    for line in stage.journal.lines():
        row = json.loads(line)
        if row["mark"] == "start" and (row["entity"], row["object"]) == (entity, object_id):
            keys[row["span"]] = row["key"]
        elif row["mark"] == "effect" and (key := keys.get(row["span"])) is not None and key not in used:
            used.add(key)
            has = row["saw"]
    return has
