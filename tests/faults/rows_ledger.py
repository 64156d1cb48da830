"""Row 50: keys of the ledger vanish, two together or one by one."""

from __future__ import annotations

from typing import Final

from tests.faults.row import Plan, fault
from tests.faults.stage import CONNECTOR, Stage, wait_until

KINDS: Final = (
    "due",
    "batches",
    "open",
    "fencing",
    "batch",
    "records",
    "run",
    "object_queue",
    "wait",
    "yielded",
    "nacked",
    "orphans",
    "snapshot",
    "lanes",
    "stats",
)
"""The keys that the scripts work on, by the word behind the portal's stem; `records`: those of a batch."""
FAILS: Final = Plan(workers=2, concurrency=2, variables={"B24_MAX_ATTEMPTS": "1"})


@fault(50, "the keys that tell of open batches, lost together", plan=Plan(concurrency=2))
def indexes_lost(stage: Stage) -> None:
    """The next sweep finds the batches; nothing is reserved for longer, and nothing runs twice."""
    stage.settle_some()
    stage.journal.tell("slow", 1.0)
    stage.begin(30, 4)
    stem = stage.services.ledger.stem
    stage.expect(stage.redis.delete(f"{stem}:batches", f"{stem}:due") == 2, "both keys were there")
    stage.noted("batches and due are deleted together")
    stage.journal.tell_nothing()
    stage.change(10, "crm_contact")
    wait_until(stage.empty, "all is settled", 90)
    stage.expect(not stage.counters.get("batches_adopted"), "the sweep found them, not adoption")


@fault(50, "each key, one after the other", plan=FAILS, repeats=None, overlap=True, drain_seconds=240)
def each_key(stage: Stage) -> None:
    """Handlers are slow and fail, records are nacked and orphaned meanwhile, so that every kind of key is there."""
    stage.settle_some()
    stage.journal.tell("slow", 0.5)
    for kind in stage.rng.sample(KINDS, len(KINDS)):
        unlucky = stage.control.change("crm_company", "update", count=3)
        for one in unlucky:
            stage.journal.tell("fail", name=f"crm_company {one}", times=2)
        stage.change(5)
        if kind == "orphans":
            wait_until(lambda: stage.control.state()["reserved"], "records are reserved", 60)
            stage.control.steal(connector=CONNECTOR, count=2)
        wait_until(lambda kind=kind: _delete_one(stage, kind), f"a key of the kind {kind} is there", 90)
        stage.noted(f"a key is deleted: {kind}")
    wait_until(lambda: not stage.journal.unheeded(), "all that is to fail has failed", 120)
    stage.journal.tell_nothing()
    stage.change(10, "crm_contact")


def _delete_one(stage: Stage, kind: str) -> int:
    """Delete a key of this kind, whichever; return how many that was."""
    begin = f"{stage.services.ledger.stem}:"
    names = sorted(name for name in stage.redis.scan_iter(f"{begin}*") if _kind_of(name.removeprefix(begin)) == kind)
    return int(stage.redis.delete(stage.rng.choice(names))) if names else 0


def _kind_of(name: str) -> str:
    return "records" if name.endswith(":records") else name.split(":", maxsplit=1)[0]
