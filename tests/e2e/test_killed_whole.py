"""`b24offline up` is killed whole, Valkey included, at any moment, again and again: the next start needs nobody."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from b24offline.config import Config
from b24offline.emulator import Control, EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey, with_ledger_address
from tests.faults import evidence
from tests.faults.checker import judge
from tests.faults.evidence import Evidence
from tests.faults.journal import VARIABLE, Journal, pipelines_of
from tests.support.up_process import Up, common_variables, portal_variables
from tests.support.waiting import wait_until

PORTAL = "acme"
CONNECTOR = "b24offline"
PIPELINES = "tests.faults.chains"
KILLS = 5
CHANGES = 120
"""Changes before the traffic ends, however long the kills take."""


class Whole:
    """One data directory, whose supervisor is killed with everything it started, and a portal, which is not."""

    def __init__(self, up: Up, control: Control, journal: Journal) -> None:
        self.up = up
        self.control = control
        self.journal = journal

    def die(self) -> int:
        """Kill all at once. Return how many processes there were."""
        found = {self.up.pid, *(process.pid for process in self.up.left())}
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.up.kill()
        wait_until(self._nothing_left, "nothing is left")
        return len(found)

    def _nothing_left(self) -> bool:
        left = self.up.left()
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        return not left

    def runtime(self) -> Runtime:
        """Return the runtime of the deployment, to look at its store and ledger."""
        return Runtime(with_ledger_address(Config.load(self.up.variables)))

    def evidence(self, known: frozenset[int]) -> Evidence:
        """Return what the portal and the handlers saw, over all starts."""
        return Evidence(
            moments=evidence.moments(entry for entry in self.control.history() if entry["connector"] == CONNECTOR),
            changes=evidence.changes(change for change in self.control.changes() if change["connector"] != CONNECTOR),
            spans=evidence.spans(self.journal.lines(), PORTAL),
            pipelines=pipelines_of(PIPELINES),
            known=known,
            objects=evidence.objects(self.control.objects(since_changes=True)),
        )


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Whole]:
    """Started, with its events bound. The journal is in a Valkey that outlives every death."""
    with EmbeddedValkey(tmp_path / "journal") as journal, EmulatorProcess(objects=150) as emulator:
        variables = {
            **common_variables(tmp_path),
            **portal_variables(emulator, PORTAL),
            "B24_PIPELINES": PIPELINES,
            VARIABLE: journal.url,
        }
        up = Up(tmp_path, variables)
        control = emulator.control()
        try:
            up.start()
            wait_until(lambda: control.state()["bindings"], "events are bound")
            yield Whole(up, control, Journal(journal.url))
        finally:
            up.close()


@pytest.mark.parametrize("seed", [1])
def test_killed_whole_five_times_it_loses_nothing(whole: Whole, seed: int) -> None:
    rng = random.Random(int(os.environ.get("B24OFFLINE_TEST_SEED", seed)))
    whole.journal.tell("slow", 0.3)  # so that every kill interrupts something
    whole.control.start_traffic(rate=3, seed=seed, hot=20)
    moments: list[float] = []
    for turn in range(KILLS):
        began = time.monotonic()
        if turn % 2 == 0:
            before = whole.journal.count("effect")
            wait_until(lambda before=before: whole.journal.count("effect") > before, "handlers run")
        # Every second kill comes during the start.
        time.sleep(rng.uniform(0, 3))
        moments.append(round(time.monotonic() - began, 1))
        assert whole.die() > (4 if turn % 2 == 0 else 0), "supervisor, Valkey, beat and workers died together"
        whole.up.start(ready=False)
    print(f"killed after {moments} s")
    wait_until(lambda: whole.control.traffic()["count"] >= CHANGES, "there is traffic over all starts")
    whole.control.stop_traffic()
    whole.journal.tell_nothing()
    runtime = whole.runtime()

    def drained() -> bool:
        return not whole.control.state()["records"] and not runtime.services(PORTAL).ledger.open_batches()

    wait_until(drained, "all of it drains by itself")
    seen = whole.evidence(frozenset())
    verdict = judge(seen)
    assert len(seen.changes) >= CHANGES, "the judge knows of all of it"
    assert not verdict.invisible, "the portal queued nothing for some changes, so nobody can tell whether they are lost"
    for what in ("lost", "stale", "unfinished", "destroyed", "stuck", "overlap"):
        assert not getattr(verdict, what), f"{what}: {getattr(verdict, what)[:3]}, killed after {moments} s"
    assert runtime.store.portals.get(PORTAL).state == "active"
    assert not runtime.store.dead_letters.count(PORTAL)
