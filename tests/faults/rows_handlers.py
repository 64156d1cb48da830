"""Rows 31 to 37: handlers, objects and payloads misbehave."""

from __future__ import annotations

import resource
import time

from tests.faults.journal import SOFT_LIMIT
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

FEW = Plan(variables={"B24_MAX_ATTEMPTS": "2"})


@fault(31, "always raises", plan=FEW, leaves=True)
def always_raises(stage: Stage) -> None:
    stage.settle_some()
    [unlucky] = stage.change(1, "crm_company")
    stage.journal.tell("fail", name=f"crm_company {unlucky}")
    stage.change(10)
    stage.noted("a handler that always raises")
    wait_until(lambda: stage.counters.get("events_reported", 0) == 1, "it is reported", 90)
    wait_until(lambda: stage.counters.get("batches_held", 0) >= 1, "it is redriven", 90)
    stage.expect(stage.counters["events_acknowledged"] >= 14, "the others are acknowledged")
    marked = stage.history("marked")
    stage.expect(len(marked) == 1, f"reported once, not {len(marked)} times")


@fault(31, "raises three times, then works")
def raises_and_works(stage: Stage) -> None:
    stage.settle_some()
    for one in stage.change(3, "crm_company"):
        stage.journal.tell("fail", name=f"crm_company {one}", times=3)
    stage.change(10)
    stage.noted("handlers that raise three times")
    wait_until(stage.empty, "all is settled", 90)
    stage.expect(not stage.history("marked"), "nothing was reported")


@fault(31, "hangs", plan=Plan(variables={SOFT_LIMIT: "3", "B24_MAX_ATTEMPTS": "2"}))
def hangs(stage: Stage) -> None:
    stage.settle_some()
    [unlucky] = stage.change(1, "crm_company")
    stage.journal.tell("hang", name=f"crm_company {unlucky}", times=1)
    stage.change(20)
    stage.noted("a handler that hangs until its time limit")


@fault(31, "returns what JSON cannot carry")
def unserializable(stage: Stage) -> None:
    stage.settle_some()
    [unlucky] = stage.change(1, "crm_company")
    stage.journal.tell("unserializable", name=f"crm_company {unlucky}", times=1)
    stage.change(10)
    stage.noted("a handler that returns an object")


@fault(32, "always fails and changes every second", plan=FEW, drain_seconds=240)
def fails_and_changes(stage: Stage) -> None:
    stage.settle_some()
    [unlucky] = stage.change(1, "crm_company")
    stage.journal.tell("fail", name=f"crm_company {unlucky}")
    began = time.monotonic()
    for _ in range(30):
        stage.control.change("crm_company", "update", ids=[unlucky])
        stage.change(1)
        time.sleep(1)
    seconds = time.monotonic() - began
    stage.noted("30 changes of an object that always fails")
    runs = sum(1 for one in stage.evidence().spans if one.name == ("crm_company", unlucky) and one.last)
    stage.expect(runs <= seconds * 3, f"{runs} runs of it in {seconds:.0f} s: a hot loop")
    stage.journal.tell_nothing()


@fault(33, "add, update, delete in one page")
def one_page(stage: Stage) -> None:
    stage.settle_some()
    stage.kill()
    deals = stage.control.change("crm_deal", "add", count=5)
    stage.control.change("crm_deal", "update", ids=deals)
    stage.control.change("crm_deal", "delete", ids=deals)
    stage.noted("add, update and delete in one page")
    stage.restart()
    wait_until(stage.empty, "all is settled", 90)
    _gone(stage, deals)


@fault(33, "add, update, delete over three pages", plan=Plan(workers=2))
def three_pages(stage: Stage) -> None:
    stage.settle_some()
    stage.journal.tell("slow", 0.5)
    deals: list[str] = []
    for action in ("add", "update", "delete"):
        if action == "add":
            deals = stage.control.change("crm_deal", action, count=5)
        else:
            stage.control.change("crm_deal", action, ids=deals)
        wait_until(lambda: stage.control.state()["free"] == 0, "the page is reserved")
    stage.noted("add, update and delete over three pages")
    stage.journal.tell_nothing()
    wait_until(stage.empty, "all is settled", 90)
    _gone(stage, deals)


def _gone(stage: Stage, deals: list[str]) -> None:
    rows = {row.object_id: row for row in stage.runtime.mirror.rows("acme") if row.entity == "crm_deal"}
    for deal in deals:
        row = rows.get(deal)
        stage.expect(row is None or row.deleted_at is not None, f"deal {deal} is still in the mirror")


@fault(34, "3 000 records waiting", plan=Plan(objects=3200, workers=2), drain_seconds=400)
def backlog(stage: Stage) -> None:
    """Fewer than in the table, in the same proportion as the timers."""
    stage.kill()
    stage.control.backlog(3000, entities=["crm_deal", "crm_contact", "task"])
    stage.noted("a backlog of 3 000")
    stage.restart()
    sizes: list[int] = []
    memory: list[int] = []

    def drained() -> bool:
        sizes.append(int(stage.control.state()["records"]))
        memory.append(int(stage.redis.info("memory")["used_memory"]))
        return stage.empty()

    wait_until(drained, "the backlog drains", 350)
    stage.expect(sizes == sorted(sizes, reverse=True), "the queue only shrinks")
    stage.expect(max(memory) < 64 << 20, f"the ledger grew to {max(memory) >> 20} MB")
    rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    stage.expect(rss < 400, f"a process grew to {rss} MB")


@fault(35, "150 marked records after a bad deploy", plan=Plan(objects=400, workers=2), drain_seconds=400)
def bad_deploy(stage: Stage) -> None:
    """Fewer than in the table; new events go first all the while."""
    stage.settle_some()
    stage.kill()
    stage.control.backlog(150, entities=["crm_contact", "crm_company"])
    stage.control.marks(connector="b24offline")
    stage.noted("150 marked records")
    stage.restart()
    wait_until(lambda: stage.counters.get("batches_held", 0) >= 5, "the error lane works", 90)
    slowest = 0.0
    for _ in range(5):
        began = time.monotonic()
        [deal] = stage.change(1)
        name = ("crm_deal", deal)
        seen = time.time()
        wait_until(
            lambda name=name, seen=seen: any(
                one.name == name and one.last and one.ok and one.start >= seen for one in stage.evidence().spans
            ),
            "a new event is run",
            60,
        )
        slowest = max(slowest, time.monotonic() - began)
    stage.expect(slowest < 15, f"a new event waited {slowest:.0f} s")


ODD: tuple[object, ...] = (
    {"FIELDS": {"ID": "1", "TEXT": "x" * 1_000_000}},
    {"FIELDS": {"ID": "2", **{f"UF_{number}": number for number in range(10_000)}}},
    {"FIELDS": {"ID": "3", "TITLE": "\U0001f600 \u0000 \ud83d"}},
    {"FIELDS": {}},
    {"FIELDS": []},
    {"FIELDS": {"ID": None}},
    {"FIELDS": {"ID": "-1"}},
    {"FIELDS": {"ID": {"a": 1}}},
    {"FIELDS": False},
    {},
    [],
    False,
    None,
    "text",
    7,
)


@fault(36, "odd payloads", plan=Plan(variables={"B24_MAX_ATTEMPTS": "1"}), leaves=True, drain_seconds=240)
def odd_payloads(stage: Stage) -> None:
    stage.settle_some()
    for number, data in enumerate(ODD):
        stage.control.raise_event("ONCRMDEALUPDATE", data, entity="", id="")
        stage.control.raise_event("ONCRMLEADADD" if number % 2 else "ONTASKADD", data, entity="", id="")
    stage.change(10)
    stage.noted(f"{2 * len(ODD)} odd payloads")
    wait_until(lambda: stage.control.state()["free"] == 0, "all is reserved", 60)

    def nothing_open() -> bool:
        known = stage.known()
        return all(one["marked"] or one["id"] in known for one in stage.control.records())

    wait_until(nothing_open, "every batch settles", 200)


@fault(36, "records with broken rows", plan=Plan(variables={"B24_MAX_ATTEMPTS": "1"}), leaves=True)
def broken_rows(stage: Stage) -> None:
    """A page whose first row cannot be read: the others of it are settled."""
    stage.settle_some()
    stage.change(10)
    fault_id = stage.control.fault("batch", "wrong_types", stage="after", times=1)
    wait_until(lambda: stage.control.fired(fault_id) or stage.empty(), "a batch has wrong types")
    stage.noted("objects with wrong types")
