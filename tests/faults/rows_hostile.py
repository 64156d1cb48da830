"""Row 47: a portal sends far more than it may. It is that portal's issue; workers, ledger and the others stay well."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from b24offline.ledger import noted_oversized
from b24offline.monitoring import IssueCode, portal_status
from tests.faults.gauges import Gauges
from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

HOSTILE: Final = "hostile"
ROUNDS: Final = 12
HEALTHY_SECONDS: Final = 30.0
"""A deal of the other portal is acknowledged within that, on a busy machine."""
WORKER_BYTES: Final = 400 << 20
"""By so much may the worker's four processes grow together; a body of 63 MiB of `{}` took 1.7 GB before."""
LEDGER_BYTES: Final = 64 << 20
HOW: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "records of 8 MiB": {"event.offline.*": {"kind": "large_rows", "size": 8 << 20}},
    "records of 100 KB": {"event.offline.*": {"kind": "large_rows", "size": 100_000}},
    "100,000 rows for 50": {"event.offline.get": {"kind": "many_rows", "size": 100_000}},
    "64 MiB of {}": {"event.offline.*": {"kind": "braces", "size": 64 << 20}},
    "400 records reserved for 50": {},
}


def _slowest(stage: Stage, gauges: Gauges) -> float:
    """Change one deal of the healthy portal after the other. Return the longest wait for an acknowledgement."""
    slowest = 0.0
    for _ in range(ROUNDS):
        began, before = time.monotonic(), stage.counters.get("events_acknowledged", 0)
        stage.change(1)
        wait_until(lambda least=before: stage.counters.get("events_acknowledged", 0) > least, "acknowledged", 90)
        slowest = max(slowest, time.monotonic() - began)
        gauges.sample()
        stage.weigh(HOSTILE)
    return slowest


def _hostile(stage: Stage, how: str) -> None:
    control, gauges = stage.connect(HOSTILE), Gauges(stage)
    wait_until(lambda: control.state()["bindings"], "the hostile portal is bound", 120)
    control.change("crm_deal", "update", count=5)
    wait_until(lambda: control.state()["records"] == 0, "it is settled once", 120)
    usual = _slowest(stage, gauges)
    workers, ledger = gauges.worker_bytes[-1], gauges.ledger_bytes[-1]
    armed = [control.fault(match, stage="after", **plan) for match, plan in HOW[how].items()]
    if not armed:
        control.quirks(rows_over_limit=400)
    control.change("crm_deal", "update", count=140)
    control.change("crm_contact", "update", count=140)
    stage.noted(how)
    services = stage.runtime.services(HOSTILE)
    wait_until(lambda: noted_oversized(services.redis, services.ledger), "it is noted", 120)
    beside = _slowest(stage, gauges)
    grown, held = max(gauges.worker_bytes) - workers, max(gauges.ledger_bytes) - ledger
    stage.tell(f"slowest deal beside it {beside:.1f} s, before {usual:.1f} s")
    stage.tell(f"workers grew by {grown >> 20} MiB, the ledger by {held / (1 << 20):.1f} MiB")
    stage.expect(beside < HEALTHY_SECONDS, f"a healthy deal took {beside:.1f} s")
    stage.expect(grown < WORKER_BYTES, f"the workers grew by {grown >> 20} MiB")
    stage.expect(held < LEDGER_BYTES, f"the ledger grew by {held >> 20} MiB")
    store, redis, config = stage.runtime.store, stage.runtime.redis, stage.runtime.config
    issues = portal_status(store, redis, config, store.portals.get(HOSTILE)).issues
    stage.expect(IssueCode.OVERSIZED in {issue.code for issue in issues}, f"its status says so: {issues}")
    for number in armed:
        stage.expect(control.fired(number), f"{how} met a call")
    control.disarm()
    control.quirks(rows_over_limit=0)
    stage.noted("it behaves again")
    wait_until(lambda: control.state()["records"] == 0, "nothing of it is left", 400)


for _one in HOW:
    fault(
        47,
        f"hostile portal: {_one}",
        plan=Plan(portals=(HOSTILE,), objects=600, variables={"B24_BATCH_SIZE": "20"}),
        repeats=None,
        drain_seconds=240,
    )(partial(_hostile, how=_one))
