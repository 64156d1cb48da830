"""An operator's hour: `make operators-hour`. Ends with 0 when each fault was noticed and mended, and nothing was lost.

Brings compose.yaml up with its profile "monitoring" and a portal that changes all the time, breaks one thing after the
other, waits for its alert in Prometheus, follows the runbook that the alert names, and waits until no alert fires.
"""

from __future__ import annotations

import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compose.engine import CHECKOUT, Failed, NoEngine
from tests.compose.injuries import FAULTS, PREFIX, Fault
from tests.compose.project import Project
from tests.compose.prometheus import Prometheus
from tests.support.waiting import NotInTime, wait_until

PAGE = CHECKOUT / "docs" / "operators-hour.md"
BEGIN, END = "<!-- measured by: make operators-hour -->\n", "<!-- end of what is measured -->"
SCALE = 0.1
"""As compose/demo.env scales the timers of the workers: what an alert waits, and how often it is looked, alike."""
INTERVALS = {"scrape_interval: 15s": "scrape_interval: 10s", "evaluation_interval: 15s": "evaluation_interval: 3s"}
"""A scrape may take 10 s, as where it is shipped."""
RATE = 3
ALERT_SECONDS, CLEAR_SECONDS, DRAIN_SECONDS = 600, 600, 600

_began = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _began:4.0f} s  {text}", flush=True)


@dataclass(frozen=True)
class Seen:
    """What one fault led to. ``fired``: alert -> seconds after the fault; ``served``: until an event was settled."""

    fault: Fault
    fired: dict[str, float]
    runbook: str
    cleared: float
    served: float

    def row(self) -> str:
        """Return it as a row of the table."""
        alerts = ", ".join(f"`{PREFIX}{name}` after {seconds:.0f} s" for name, seconds in self.fired.items())
        path, _, anchor = self.runbook.partition("#")
        link = f"[{anchor}]({path.removeprefix('docs/')}#{anchor})"
        cells = (self.fault.name, alerts, link, self.fault.remedy, f"{self.served:.0f} s", f"{self.cleared:.0f} s")
        return f"| {' | '.join(cells)} |"


def rules_folder(parent: Path) -> Path:
    """Return a folder with the rules that are shipped, whose waits are shortened as the timers of the demo are."""
    shipped, folder = CHECKOUT / "deploy" / "prometheus", parent / "prometheus"
    folder.mkdir()
    config = (shipped / "prometheus.yml").read_text("utf-8")
    for shipped_interval, interval in INTERVALS.items():
        config = config.replace(shipped_interval, interval)
    (folder / "prometheus.yml").write_text(config, "utf-8")
    rules = (shipped / "rules.yml").read_text("utf-8")
    shortened = re.sub(r"for: (\d+)m", lambda found: f"for: {int(found[1]) * 60 * SCALE:.0f}s", rules)
    (folder / "rules.yml").write_text(shortened, "utf-8")
    return folder


def section(runbook: str) -> str:
    """Return the chapter that an alert links to. Raise `Failed` where there is none."""
    path, _, anchor = runbook.partition("#")
    chapters = re.split(r"^(#+) (.*)$", (CHECKOUT / path).read_text("utf-8"), flags=re.MULTILINE)
    found, depth = [], 0
    for level, heading, text in zip(chapters[1::3], chapters[2::3], chapters[3::3], strict=True):
        if depth and len(level) <= depth:
            break
        if depth or re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") == anchor:
            depth = depth or len(level)
            found.append(f"{heading}\n{text}")
    if not found:
        raise Failed(f"no such heading: {runbook}")
    return " ".join("\n".join(found).split())


class Hour:
    """One deployment and who watches it."""

    def __init__(self, project: Project) -> None:
        self.project, self.prometheus = project, Prometheus(project.prometheus_port)

    def go_through(self, fault: Fault) -> Seen:
        """Break, wait for the alerts, mend by the runbook, wait until nothing fires. Raise `Failed`, `NotInTime`."""
        say(f"- {fault.name}")
        began = time.monotonic()
        fault.break_it(self.project)
        fired = {name: self._fires(name, began) for name in fault.alerts}
        runbook = self.prometheus.alerts()[PREFIX + fault.alerts[0]]["runbook"]
        if fault.says.lower() not in section(runbook).lower():
            raise Failed(f"{runbook} does not say: {fault.says}")
        say(f"  {fired}; {runbook}: {fault.remedy}")
        before, mended = self._settled(), time.monotonic()
        fault.mend(self.project)
        self._wait(lambda: self._settled() > before, "events are settled again", CLEAR_SECONDS)
        served = time.monotonic() - mended
        self._wait(lambda: not self.prometheus.alerts(), "no alert fires any more", CLEAR_SECONDS)
        cleared = time.monotonic() - mended
        say(f"  events are settled after {served:.0f} s, no alert fires after {cleared:.0f} s")
        self.project.wait_until_healthy()
        return Seen(fault, fired, runbook, cleared, served)

    def _fires(self, name: str, began: float) -> float:
        self._wait(lambda: PREFIX + name in self.prometheus.alerts(), f"{name} fires", ALERT_SECONDS)
        return round(time.monotonic() - began, 1)

    def _settled(self) -> float:
        """Return how many records the portal itself has lost to acknowledgements, whatever else is away."""
        return float(self.project.ask_portal("sum(entry['kind'] == 'cleared' for entry in portal.history())"))

    def _wait(self, condition: Callable[[], object], what: str, seconds: float) -> None:
        try:
            wait_until(condition, what, seconds, pause_seconds=1)
        except NotInTime as error:
            raise Failed(f"{error}; firing: {sorted(self.prometheus.alerts())}") from None


def nothing_is_lost(project: Project) -> str:
    """End the changes, wait until nothing waits, compare mirror and portal. Raise `Failed`."""
    changes = project.ask_portal("portal.stop_traffic()")["count"]
    wait_until(lambda: _waiting(project) == 0, "nothing waits", DRAIN_SECONDS, pause_seconds=2)
    found: dict[str, Any] = project.ask("difference")
    # A reconciliation mirrors objects that have not changed as well.
    there = {(one["entity"], str(one["id"])) for one in project.ask_portal("portal.objects()")}
    found["extra"] = [name for name in found["extra"] if tuple(name) not in there]
    if found["missing"] or found["stale"] or found["extra"]:
        raise Failed(f"the mirror is not the portal: {found}")
    return f"{changes} changes, {found['compared']} objects compared, none missing, stale or extra"


def _waiting(project: Project) -> int:
    return int(project.ask("progress")["waiting"])


def hour() -> tuple[list[Seen], str]:
    """Go through all faults, or those whose number is named. Raise `Failed`, `NotInTime`, `NoEngine`."""
    chosen = [FAULTS[int(number) - 1] for number in sys.argv[1:] if number.isdigit()] or list(FAULTS)
    with tempfile.TemporaryDirectory(prefix="b24offline-hour-") as parent:
        folder = rules_folder(Path(parent))
        with Project(say, variables={"PROMETHEUS_FOLDER": str(folder)}) as project:
            watching = Hour(project)
            bound = "len(portal.state()['bindings'])"
            wait_until(lambda: project.ask_portal(bound), "the events are subscribed", 120, pause_seconds=1)
            wait_until(lambda: watching.prometheus.values("b24offline_up") == [1, 1, 1], "it is scraped", 90)
            project.ask_portal(f"portal.start_traffic(rate={RATE}, entities=['crm_deal', 'crm_lead'])")
            seen = [watching.go_through(fault) for fault in chosen]
            return seen, nothing_is_lost(project)


HEAD = "| fault | alerts | runbook | remedy | events settled | no alert |\n|---|---|---|---|---|---|\n"


def merged(page: str, seen: list[Seen]) -> str:
    """Return the page with the rows of these faults measured anew, and those of others as they are."""
    before, _, rest = page.partition(BEGIN)
    measured, _, after = rest.partition(END)
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in measured.splitlines() if row.startswith("| ")}
    rows |= {one.fault.name: one.row() for one in seen}
    listed = "\n".join(rows[fault.name] for fault in FAULTS if fault.name in rows)
    return f"{before}{BEGIN}\n{HEAD}{listed}\n\n{END}{after}"


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        seen, end = hour()
    except NoEngine as error:
        say(str(error))
        return 2
    except (Failed, NotInTime) as error:
        say(f"FAILED: {error}")
        return 1
    print(HEAD + "\n".join(one.row() for one in seen))
    if "--write" in sys.argv:
        PAGE.write_text(merged(PAGE.read_text("utf-8"), seen), "utf-8")
    say(f"{len(seen)} faults noticed, mended by their runbooks, and over; {end}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
