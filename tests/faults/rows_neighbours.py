"""Rows 37 and 44: other stacks on the broker, and other deployments at the portal."""

from __future__ import annotations

import os

from b24offline import processes
from b24offline.config import Config
from b24offline.embedded import EmbeddedValkey
from b24offline.processes import CeleryProcess
from b24offline.runtime import Runtime
from tests.faults.journal import VARIABLE, Journal
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

SHOP = Plan(objects=200, variables={"B24_HANDOFF_QUEUES": "shop", "B24_MAX_ATTEMPTS": "2"})


def _shop(stage: Stage, name: str = "shop") -> CeleryProcess:
    """A worker of the other stack, which shares the broker with us and nothing else. It ends with the row."""
    environ = {**os.environ, "SHOP_BROKER_URL": stage.broker.url, "SHOP_REDIS_URL": stage.valkey.url}
    command = ["worker", "-n", f"{name}@%h", "-c", "2", "-l", "INFO", "--without-mingle", "--without-gossip"]
    application = "tests.integration.foreign_stack"
    log = stage.folder / f"{name}.log"
    process = CeleryProcess(name, command, environ=environ, log_path=log, application=application)
    stage.neighbours.append(process)
    return process.start()


def _move_deals(stage: Stage, count: int, funnel: int) -> list[str]:
    return stage.control.change("crm_deal", "update", count=count, fields={"CATEGORY_ID": str(funnel)})


@fault(37, "a step of another stack fails", plan=SHOP, drain_seconds=240)
def refused(stage: Stage) -> None:
    _shop(stage)
    stage.settle_some()
    deals = _move_deals(stage, 5, 5)
    stage.redis.sadd("shop:refuse", *deals[:2])
    stage.noted("another stack fails two of five")
    wait_until(
        lambda: stage.counters.get("events_reported", 0) == 2, "their outcome arrives, and they are reported", 90
    )
    stage.redis.delete("shop:refuse")


@fault(37, "the other stack's worker is killed", plan=SHOP, drain_seconds=300)
def worker_gone(stage: Stage) -> None:
    shop = _shop(stage)
    stage.settle_some()
    _move_deals(stage, 5, 5)
    wait_until(stage.empty, "the other stack takes part", 90)
    shop.kill()
    stage.noted("SIGKILL of another stack's worker")
    _move_deals(stage, 5, 7)
    stage.change(10, "crm_contact")
    acknowledged = stage.counters.get("events_acknowledged", 0)
    wait_until(lambda: stage.counters["events_acknowledged"] >= acknowledged + 1, "others are acknowledged", 60)
    _shop(stage, "shop-again")


@fault(44, "two deployments, one portal, different connectors", drain_seconds=120)
def two_deployments(stage: Stage) -> None:
    """Both hold reserved records for longer than an orphan must be seen: neither takes the other's."""
    stage.control.quirks(refresh_grace_seconds=86_400.0)
    server = stage.borrow(EmbeddedValkey(stage.folder / "other-valkey"))
    variables = {
        **stage.variables,
        "B24_REDIS_URL": server.url,
        "CELERY_BROKER_URL": server.url,
        "B24_DATA_DIR": str(stage.folder / "other-data"),
        "B24_CONNECTOR": "other",
        "B24_REFRESH_TOKEN": stage.control.issue_token()["refresh_token"],
    }
    variables[VARIABLE] = stage.variables[VARIABLE].removesuffix("0") + "1"
    config = Config.load({name: value for name, value in variables.items() if "_TEST_" not in name})
    theirs = Runtime(config)
    theirs.seeded  # noqa: B018 - made before the worker races for it
    environ = processes.child_environ(variables)
    stage.neighbours.append(processes.worker("other", environ=environ, folder=stage.folder).start())
    stage.neighbours.append(processes.beat(environ=environ, folder=stage.folder, name="other-beat").start())
    wait_until(lambda: any(one["connector"] == "other" for one in stage.control.state()["bindings"]), "both bound", 60)
    for journal in (stage.journal, Journal(variables[VARIABLE])):
        journal.tell("slow", 14, times=4)
    stage.change(10)
    stage.noted("a second deployment at the same portal")
    wait_until(stage.empty, "both are settled", 120)
    for runtime in (stage.runtime, theirs):
        told = runtime.kit(PORTAL).ledger.counters()
        stage.expect(told.get("events_acknowledged", 0) == 10, f"each acknowledges its own: {told}")
        stage.expect(not told.get("batches_adopted"), "none is adopted")
