"""The loop that one would write, without Celery and without a ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack

from b24offline import supervisor
from b24offline.emulator import EmulatorProcess
from benchmarks.contestant import DONE_VARIABLE, Contestant, contestant
from benchmarks.counts import Counts
from benchmarks.pipelines import CHANGED
from benchmarks.plain_loop import CONNECTOR, call


@contestant
class Loop(Contestant):
    """One process: reserve, read each object, do the steps, acknowledge."""

    name = "loop"
    title = "plain loop: get, read each, clear"
    brokers = ("valkey",)

    def start(self, started: ExitStack) -> None:
        emulator = started.enter_context(EmulatorProcess(objects=10))
        self._control = emulator.control()
        token = self._control.issue_token()["access_token"]
        bind = {"event": CHANGED, "event_type": "offline", "auth_connector": CONNECTOR}
        call(emulator.rest, token, "event.bind", bind)
        environ = supervisor.child_environ({DONE_VARIABLE: str(self.done_file), "PYTHONPATH": os.getcwd()})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.plain_loop", emulator.rest, token],
            env=environ,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.callback(self._process.wait)
        started.callback(self._process.kill)

    @property
    def process_ids(self) -> list[int]:
        return [self._process.pid]

    def feed(self, count: int) -> None:
        self._control.backlog(count, entities=["crm_deal"])

    def finished(self, handled: int) -> bool:
        return super().finished(handled) and self._control.state()["records"] == 0

    def counts(self) -> Counts:
        return Counts(requests=sum(self._control.state()["requests"].values()))
