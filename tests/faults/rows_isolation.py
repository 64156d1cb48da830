"""Rows 45, 48 and 52: what is sick stays alone, whether an object, a list that is slow to read, or a nacked record."""

from __future__ import annotations

import json
from typing import Final

from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

POISON: Final = 25
"""More than the open batches of a lane, each in a batch of its own."""
HEALTHY_SECONDS: Final = 30.0
"""A deal beside them is acknowledged within that: scaled waits of all steps, on a busy machine."""


@fault(52, "a nacked record stands for a newer change", plan=Plan(variables={"B24_MAX_ATTEMPTS": "1"}), repeats=1)
def nacked_record_for_newer_change(stage: Stage) -> None:
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
