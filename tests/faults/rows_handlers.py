"""Rows 31 to 37: handlers, objects and payloads misbehave."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from tests.faults import evidence
from tests.faults.gauges import Gauges, growth
from tests.faults.journal import CHEAP, FUSED, SOFT_LIMIT
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

FEW = Plan(variables={"B24_MAX_ATTEMPTS": "2"})


def _unlucky(stage: Stage, what: str, word: str, others: int, count: int = 1, times: int | None = 1) -> None:
    """Companies whose handler does something wrong, among others."""
    stage.settle_some()
    with stage.unseen():
        for one in stage.change(count, "crm_company"):
            stage.journal.tell(word, name=f"crm_company {one}", times=times)
    stage.change(others)
    stage.noted(what)


@fault(31, "always raises", plan=FEW, leaves=True)
def always_raises(stage: Stage) -> None:
    _unlucky(stage, "a handler that always raises", "fail", 10, times=None)
    wait_until(lambda: stage.counters.get("events_nacked", 0) == 1, "it is nacked", 90)
    wait_until(lambda: stage.counters.get("batches_retrying", 0) >= 1, "it is redriven", 90)
    stage.expect(stage.counters["events_acknowledged"] >= 14, "the others are acknowledged")
    nacked = stage.history("nacked")
    stage.expect(len(nacked) == 1, f"reported once, not {len(nacked)} times")


@fault(31, "raises three times in fused runs, then works", plan=Plan(variables={FUSED: "1"}))
@fault(31, "raises three times, then works")
def raises_and_works(stage: Stage) -> None:
    _unlucky(stage, "handlers that raise three times", "fail", 10, count=3, times=3)
    wait_until(stage.empty, "all is settled", 90)
    stage.expect(not stage.history("nacked"), "nothing was nacked")


fault(31, "hangs", plan=Plan(variables={SOFT_LIMIT: "3", "B24_MAX_ATTEMPTS": "2"}))(
    partial(_unlucky, what="a handler that hangs until its time limit", word="hang", others=20)
)
fault(31, "returns what JSON cannot carry")(
    partial(_unlucky, what="a handler that returns an object", word="unserializable", others=10)
)


@fault(31, "returns what JSON cannot carry, before the last step", plan=FEW)
def unserializable_in_the_middle(stage: Stage) -> None:
    """The next step could not be sent: the run fails at once, not as one that died; the others go on."""
    stage.settle_some()
    with stage.unseen():
        once, always = stage.change(2, "crm_company")
        stage.journal.tell("unserializable", name=f"first crm_company {once}", times=1)
        stage.journal.tell("unserializable", name=f"first crm_company {always}")
    stage.change(10)
    stage.noted("a first step that returns an object")
    wait_until(lambda: stage.counters.get("events_acknowledged", 0) >= 14, "the others are acknowledged", 90)
    wait_until(lambda: stage.counters.get("events_nacked", 0) >= 2, "both are nacked", 120)
    stage.expect(len(stage.history("nacked")) == 2, "each is nacked once")
    stage.expect(not stage.counters.get("runs_crashed"), "nothing is taken for a death")
    stage.journal.tell_nothing()


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


FEW_KEYS: Final = 100


def _gone(stage: Stage, deals: list[str]) -> None:
    rows = {row.object_id: row for row in stage.runtime.mirror.rows("acme") if row.entity == "crm_deal"}
    for deal in deals:
        row = rows.get(deal)
        stage.expect(row is None or row.deleted_at is not None, f"deal {deal} is still in the mirror")


@fault(
    34,
    "20 000 records waiting",
    plan=Plan(
        objects=60,
        workers=2,
        variables={
            CHEAP: "1",
            "B24_REQUESTS_PER_SECOND": "100",
            "B24_BURST": "200",
            "B24_POLL_INTERVAL_MIN_SECONDS": "0.2",
            "B24_OBJECT_CACHE_TTL_SECONDS": "10",
        },
    ),
    drain_seconds=240,
)
def backlog(stage: Stage) -> None:
    """The bucket and the life of a snapshot are scaled like the timers; handlers have one step."""
    stage.kill()
    stage.control.backlog(20_000, entities=["crm_deal", "crm_contact", "task"])
    stage.noted("a backlog of 20 000")
    stage.restart()
    seen = Gauges(stage)
    seen.until(stage.empty, "the backlog drains")
    stage.tell(str(seen))
    stage.expect(seen.waiting == sorted(seen.waiting, reverse=True), "the queue only shrinks")
    stage.expect(max(seen.ledger_bytes) < 64 << 20, f"the ledger grew: {seen}")
    stage.expect(
        growth(seen.worker_bytes) < 1.25, f"memory of the workers is not flat: {growth(seen.worker_bytes):.2f}"
    )
    # While records flow, the size of the ledger follows their rate. What counts is what stays: keys of the portal and
    # its queues, none of a record. The bytes of the server would count connections and scripts as well.
    wait_until(lambda: stage.redis.dbsize() < FEW_KEYS, "hardly a key is left of 20 000 records", 60)
    stage.tell(f"{stage.redis.dbsize()} keys are left, ledger {seen.ledger_now() >> 10} KB")


LANE_SECONDS: Final = 320.0
"""How long 5 000 nacked records take on two cores beside two other rows; a busier machine is slower in all it does."""


@fault(
    35,
    "5 000 nacked records after a bad deploy",
    plan=Plan(objects=60, workers=2, variables={"B24_REQUESTS_PER_SECOND": "100", "B24_BURST": "200"}),
    drain_seconds=240,
)
def bad_deploy(stage: Stage) -> None:
    """The lane takes its share of the request rate, and listing it costs little; new events go first all the while."""
    stage.settle_some()
    stage.kill()
    stage.control.backlog(5_000, entities=["crm_contact", "crm_company"])
    stage.control.marks(connector="b24offline")
    stage.noted("5 000 nacked records")
    stage.restart()
    wait_until(lambda: stage.counters.get("batches_retrying", 0) >= 20, "the error lane works", 90)
    before, began = sum(stage.control.state()["requests"].values()), time.monotonic()
    retrying = stage.counters["batches_retrying"]
    waits: list[float] = []

    def drained() -> bool:
        if len(waits) < 40 and stage.control.state()["free_nacked"]:
            waits.append(_seconds_until_run(stage))
        return stage.empty()

    seen = Gauges(stage)
    seen.until(drained, "the error lane drains")
    records = stage.counters["batches_retrying"] - retrying
    calls = (sum(stage.control.state()["requests"].values()) - before) / records
    stage.tell(f"{seen}; {records / (time.monotonic() - began):.1f} a second, {calls:.1f} requests each")
    stage.tell(f"{len(waits)} new events waited {sorted(waits)[len(waits) // 2]:.1f} s, at most {max(waits):.1f} s")
    stage.expect(len(waits) >= 20, "new events came while the lane drained")
    slower = max(1.0, seen.seconds / LANE_SECONDS)
    stage.expect(
        sorted(waits)[len(waits) // 2] < 4 * slower and max(waits) < 15 * slower, f"new events waited: {waits}"
    )
    stage.expect(calls < 3.0, f"{calls:.1f} requests for one record: the lane is listed too often")


def _seconds_until_run(stage: Stage) -> float:
    """Return how long a new event waits for its run to end."""
    began = time.time()
    [deal] = stage.change(1)

    def is_run() -> bool:
        lines = stage.journal.lines(last=4000)
        return any(
            one.name == ("crm_deal", deal) and one.last and one.ok and one.start >= began
            for one in evidence.spans(lines, PORTAL)
        )

    wait_until(is_run, "a new event is run", 60)
    return time.time() - began


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
        return all(one["nacked"] or one["id"] in known for one in stage.control.records())

    wait_until(nothing_open, "every batch settles", 200)


@fault(36, "records with broken rows", plan=Plan(variables={"B24_MAX_ATTEMPTS": "1"}), drain_seconds=240)
def broken_rows(stage: Stage) -> None:
    """Rows handed out with no name, no stamp, no ids, no data or no object; they are whole when they are read again."""
    stage.settle_some()
    get = stage.control.fault("event.offline.get", "broken_rows", stage="after", times=1, where={"error": "0"})
    stage.control.change("crm_deal", "add", count=20)
    wait_until(lambda: stage.control.fired(get), "broken rows are handed out")
    stage.noted("event.offline.get with broken rows")
    look = stage.control.fault("event.offline.list", "broken_rows", stage="after", times=2)
    objects = stage.control.fault("batch", "wrong_types", stage="after", times=1)
    stage.change(10)
    wait_until(lambda: stage.control.fired(look) and stage.control.fired(objects), "lists and objects too", 90)
    stage.noted("event.offline.list with broken rows, objects with wrong types")
    wait_until(lambda: stage.counters.get("events_nacked", 0) >= 4, "those that can be are nacked as failed", 120)
    wait_until(lambda: stage.counters.get("batches_adopted", 0) >= 1, "those without ids are found again", 120)
