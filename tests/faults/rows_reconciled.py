"""Row 25 with reconciliation: changes that nobody was told of are found, and the mirror equals the portal."""

from __future__ import annotations

import time

from demo.comparison import compare
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until

CHAINS = "tests.faults.chains,tests.faults.mirrored_chains"
ENTITIES = ("crm_deal", "crm_contact", "crm_item", "task")


def _equal(stage: Stage) -> bool:
    found = compare(stage.control.objects(since_changes=True), stage.runtime.mirror.rows(PORTAL))
    return bool(found.compared) and not found.missing and not found.stale


@fault(25, "subscription removed silently, reconciled", plan=Plan(variables={"B24_PIPELINES": CHAINS}), invisible=True)
def unsubscribed_and_reconciled(stage: Stage) -> None:
    known = {entity: stage.change(6, entity) for entity in ENTITIES}
    wait_until(lambda: stage.empty() and _equal(stage), "the first changes are settled", 90)
    # Dates have a resolution of a second: a change within the second of the one before could not be told from it.
    time.sleep(1.1)
    stage.control.drop_subscriptions()
    for entity in ENTITIES:
        stage.control.change(entity, "delete", ids=known[entity][:2])
        stage.change(6, entity)
        stage.change(2, entity, "add")
    stage.noted("all subscriptions removed, 40 changes, and an hour passes")
    stage.expect(not _equal(stage), "without reconciliation the mirror is behind")
    stage.redis.delete(f"{stage.services.ledger.stem}:bound:fresh")
    wait_until(lambda: stage.control.state()["bindings"], "found and bound again", 90)
    stage.change(10)
    wait_until(lambda: stage.counters.get("events_synthetic", 0), "what was missed is injected", 90)
    wait_until(lambda: _equal(stage), "the mirror equals the portal", 90)
    wait_until(lambda: "changes whose events never came" in stage.workers[0].log_tail(200000), "an alarm", 20)
