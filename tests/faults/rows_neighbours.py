"""Rows 37 and 44: other stacks on the broker, and other deployments at the portal."""

from __future__ import annotations

import os

from b24offline import supervisor
from b24offline.config import Config
from b24offline.events import ObservedState
from b24offline.monitoring import portal_status
from b24offline.runtime import Runtime
from b24offline.supervisor import CeleryProcess, EmbeddedValkey
from tests.faults.journal import TRACKED, VARIABLE, Journal
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

SHOP = Plan(objects=200, variables={"B24_EXTERNAL_QUEUES": "shop", "B24_MAX_ATTEMPTS": "2"})


def other_stack(stage: Stage, name: str = "shop") -> CeleryProcess:
    """Return a worker of the other stack, which shares the broker with us and nothing else. It ends with the row."""
    environ = {**os.environ, "SHOP_BROKER_URL": stage.broker.url, "SHOP_REDIS_URL": stage.valkey.url}
    command = ["worker", "-n", f"{name}@%h", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip"]
    application = "tests.support.foreign_stack"
    log = stage.folder / f"{name}.log"
    process = CeleryProcess(name, command, environ=environ, log_path=log, application=application)
    stage.neighbours.append(process)
    return process.start()


def _move_deals(stage: Stage, count: int, funnel: int) -> list[str]:
    return stage.control.change("crm_deal", "update", count=count, fields={"CATEGORY_ID": str(funnel)})


@fault(37, "a step of another stack fails", plan=SHOP, drain_seconds=240)
def refused(stage: Stage) -> None:
    other_stack(stage)
    stage.settle_some()
    with stage.unseen():
        deals = _move_deals(stage, 5, 5)
        stage.redis.sadd("shop:refuse", *deals[:2])
    stage.noted("another stack fails two of five")
    wait_until(lambda: stage.counters.get("events_nacked", 0) == 2, "their outcome arrives, and they are nacked", 90)
    stage.redis.delete("shop:refuse")


@fault(37, "the other stack's worker is killed", plan=SHOP, drain_seconds=300)
def worker_gone(stage: Stage) -> None:
    shop = other_stack(stage)
    stage.settle_some()
    _move_deals(stage, 5, 5)
    wait_until(stage.empty, "the other stack takes part", 90)
    shop.kill()
    stage.noted("SIGKILL of another stack's worker")
    _move_deals(stage, 5, 7)
    stage.change(10, "crm_contact")
    acknowledged = stage.counters.get("events_acknowledged", 0)
    wait_until(lambda: stage.counters["events_acknowledged"] >= acknowledged + 1, "others are acknowledged", 60)
    other_stack(stage, "shop-again")


def _second(stage: Stage, **differences: str) -> tuple[Runtime, dict[str, str]]:
    """Another deployment at the same portal, with a ledger, a broker and a store of its own; not started."""
    stage.control.quirks(refresh_grace_seconds=86_400.0)
    server = stage.borrow(EmbeddedValkey(stage.folder / "other-valkey"))
    variables = {
        **stage.variables,
        "B24_REDIS_URL": server.url,
        "CELERY_BROKER_URL": server.url,
        "B24_DATA_DIR": str(stage.folder / "other-data"),
        "B24_REFRESH_TOKEN": stage.control.issue_token()["refresh_token"],
        **differences,
    }
    theirs = Runtime(Config.load(variables))
    theirs.ensure_configured_portal()  # made before the worker races for it
    return theirs, variables


def _start(stage: Stage, variables: dict[str, str]) -> None:
    environ = supervisor.child_environ(variables)
    stage.neighbours.append(supervisor.worker("other", environ=environ, folder=stage.folder).start())
    stage.neighbours.append(supervisor.beat(environ=environ, folder=stage.folder, name="other-beat").start())


@fault(44, "two deployments, one portal, different connectors", drain_seconds=120)
def two_deployments(stage: Stage) -> None:
    """Both hold reserved records for longer than an orphan must be seen: neither takes the other's."""
    journals = stage.variables[VARIABLE].removesuffix("0") + "1"
    theirs, variables = _second(stage, B24_CONNECTOR="other", **{VARIABLE: journals})
    _start(stage, variables)
    wait_until(lambda: any(one["connector"] == "other" for one in stage.control.state()["bindings"]), "both bound", 60)
    for journal in (stage.journal, Journal(variables[VARIABLE])):
        journal.tell("slow", 14, times=4)
    stage.change(10)
    stage.noted("a second deployment at the same portal")
    wait_until(stage.empty, "both are settled", 120)
    for runtime in (stage.runtime, theirs):
        reply = runtime.services(PORTAL).ledger.counters()
        stage.expect(reply.get("events_acknowledged", 0) == 10, f"each acknowledges its own: {reply}")
        stage.expect(not reply.get("batches_adopted"), "none is adopted")


@fault(44, "two deployments, same connector: claim is asked for", repeats=None, drain_seconds=180)
def takeover_asked(stage: Stage) -> None:
    """The second keeps off while the first lives, also when nothing is reserved for a while, and until it is told."""
    stage.settle_some()
    # It wants other events, too, so that its subscribing would be seen.
    theirs, variables = _second(stage, B24_EVENTS=",".join((*TRACKED, "ONCRMQUOTEADD")))
    stage.journal.tell("slow", 25, times=2)  # longer than a worker needs to start beside other work
    stage.change(10)
    wait_until(lambda: any(one["process_id"] for one in stage.control.records()), "the first holds reserved records")
    first_call = max(one["seq"] for one in stage.control.requests())
    _start(stage, variables)
    about = theirs.store.portals.get
    wait_until(lambda: about(PORTAL).state is ObservedState.UNDECIDED, "the second asks", 60)
    stage.noted("a second deployment with the same connector")
    wait_until(stage.empty, "the first has settled", 90)
    stage.journal.tell("slow", 1)
    stage.change(15)
    wait_until(lambda: stage.journal.count("effect") >= 18, "handlers of the first run")
    found = portal_status(theirs.store, theirs.redis, theirs.config, about(PORTAL))
    reply = [issue.message for issue in found.issues]
    stage.expect(any(f"portal claim {PORTAL}" in what for what in reply), f"its status names the command: {reply}")
    counted = theirs.services(PORTAL).ledger.counters()  # of calls, too, as it looks
    took = {name: count for name, count in counted.items() if name.startswith(("batches_", "events_", "runs_"))}
    stage.expect(not took, f"it took nothing: {took}")
    stage.expect(about(PORTAL).state is ObservedState.UNDECIDED, "it still asks")
    stage.expect(stage.calls("event.offline.list", first_call), "it looked")
    stage.expect("ONCRMQUOTEADD" not in str(stage.control.state()["bindings"]).upper(), "it subscribed nothing")
    for process in (*stage.workers, *stage.beats):
        process.kill()
    stage.noted("the first is killed for good, with its ledger; claim")
    stage.journal.tell_nothing()
    left = [one for one in stage.control.records() if one["process_id"]]
    stage.expect(left, "it leaves reserved records")
    stage.services.ledger.erase()
    stage.workers.clear()
    stage.expect(theirs.store.portals.claim(PORTAL), "the second is told")
    wait_until(lambda: theirs.services(PORTAL).ledger.counters().get("batches_adopted", 0), "they are adopted", 90)
    stage.change(5)
    wait_until(
        lambda: not theirs.services(PORTAL).ledger.open_batches() and stage.empty(), "the second drains them", 150
    )
