"""Row 50: keys of the ledger vanish, two together or one by one. Row 55: a list of orphans outlasts its lease."""

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


ORPHANS: Final = 120
PAGE: Final = 50
"""Orphans that are asked for in one list, under the lease."""
WITHIN: Final = 0.6
OUTLASTS: Final = 0.83
"""How long the first and the second of these lists take, in poll leases: together longer than the lease."""
OUTLASTED: Final = Plan(workers=2, concurrency=2, scale=0.2, variables={"B24_MAX_IN_FLIGHT_BATCHES": "500"})


def list_outlasts_its_lease(stage: Stage) -> None:
    """A worker adopts what an unanswered call may have left. Its second list was true; when it comes, another worker
    has adopted and settled what is on it."""
    stage.settle_some()
    with stage.unseen():
        stage.change(ORPHANS, action="add")
        found = [
            stage.control.steal(connector=CONNECTOR, ids=[one["id"]])["process_id"] for one in stage.control.records()
        ]
        lists = [
            stage.control.fault(
                "event.offline.list",
                "hold",
                stage="after",
                times=1,
                seconds=part * stage.runtime.timers.poll_lease_seconds,
                where={"filter": str({"@PROCESS_ID": sorted(found[start : start + PAGE]), ">ID": 0})},
            )
            for start, part in ((0, WITHIN), (PAGE, OUTLASTS))
        ]
        lost = stage.control.fault("event.offline.get", "reset", stage="after", times=1, where={"error": "0"})
    wait_until(lambda: stage.control.held(lists[1]), "the second list is under way", 90)
    stage.noted("an unanswered call, and lists of what it may have left that outlast the lease")
    stage.expect(stage.control.fired(lost), "the call was unanswered")
    wait_until(lambda: not stage.control.held(lists[1]), "that list comes", 60)
    wait_until(stage.empty, "all is settled", 120)
    adopted = stage.counters.get("batches_adopted", 0)
    stage.tell(f"{ORPHANS} orphans, {adopted} adopted")
    stage.expect(adopted <= ORPHANS + 1, f"each is adopted once: {adopted} of {ORPHANS} and one")


fault(55, "adoption's list outlasts its lease", plan=OUTLASTED)(list_outlasts_its_lease)
