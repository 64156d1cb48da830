"""A deployment under load with faults, scraped by a real Prometheus: something for every graph of the dashboard."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from b24offline.supervisor import EmbeddedValkey
from tests.support.chains import MODE
from tests.support.prometheus import Exporter, Prometheus
from tests.support.stack import Stack
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.dashboard import Panel

SECONDS = 75.0
WINDOW = "15s"
"""In the place of Grafana's window: many scrapes, and short enough to see a fault pass."""
STEP_SECONDS = 1.0
SETTINGS = {
    "B24_PIPELINES": "tests.support.chains",
    "B24_EVENTS": "ONCRMDEALADD,ONCRMDEALUPDATE,ONCRMDEALDELETE,ONCRMLEADADD,ONCRMLEADUPDATE,ONNOSUCHEVENT",
    "B24_REQUESTS_PER_SECOND": "8",
    "B24_BURST": "10",
    "B24_MAX_ATTEMPTS": "2",
}


class Watched:
    """What was seen between two moments in epoch seconds."""

    def __init__(self, prometheus: Prometheus, begin: float, end: float) -> None:
        self._prometheus, self._begin, self._end = prometheus, begin, end

    def series(self, expression: str) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return labels and (seconds since the beginning, value) of each series of an expression; numbers only."""
        found = self._prometheus.ranges(expression, self._begin, self._end, STEP_SECONDS)
        return [
            (one["metric"], [(at - self._begin, float(value)) for at, value in one["values"] if value != "NaN"])
            for one in found
        ]

    def panel(self, panel: Panel) -> dict[str, list[tuple[float, float]]]:
        """Return the name in the legend -> the points of a panel's series."""
        found: dict[str, Any] = {}
        for legend, expression in panel.queries.items():
            for labels, points in self.series(expression.replace("$__rate_interval", WINDOW)):
                name = legend
                for label, value in labels.items():
                    name = name.replace(f"{{{{{label}}}}}", value)
                if points:
                    found[name] = points
        return found


def _trouble(stack: Stack) -> None:
    """Let some of everything go wrong, one thing after the other."""
    control, redis = stack.control, stack.runtime.redis
    control.start_traffic(rate=6, seconds=SECONDS, update=1.0, entities=["crm_deal", "crm_lead"])
    failing, dying = control.change("crm_deal", "add", count=3), control.change("crm_deal", "add", count=2)
    for deals, mode in ((failing, "fail"), (dying, "die")):
        redis.hset(MODE, mapping={f"crm_deal {deal}": mode for deal in deals})
    time.sleep(SECONDS / 4)
    slow = control.fault("event.offline.clear", "delay", seconds=1.0)
    control.steal(connector=stack.services.portal.connector, count=5)
    time.sleep(SECONDS / 8)
    control.disarm(slow)
    hanging = control.fault("batch", "hang", seconds=30)
    time.sleep(SECONDS / 4)
    control.disarm(hanging)
    for worker in stack.workers:
        worker.kill()
    time.sleep(SECONDS / 8)
    for worker in stack.workers:
        worker.start()
    time.sleep(SECONDS / 4)


@contextmanager
def busy(folder: Path) -> Iterator[Watched]:
    """Run it, and yield what Prometheus saw."""
    with (
        EmbeddedValkey(folder / "valkey") as valkey,
        Stack(folder / "stack", valkey.url, valkey.url, variables=SETTINGS) as stack,
    ):
        exporter = Exporter(stack.variables)
        try:
            with Prometheus(folder / "prometheus", exporter.address) as prometheus:
                wait_until(lambda: prometheus.values("b24offline_up"), "it is scraped")
                begin = time.time()
                _trouble(stack)
                yield Watched(prometheus, begin, time.time())
        finally:
            exporter.stop()
            stack.show()
