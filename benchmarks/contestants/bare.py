"""Celery alone. All messages wait in the broker when the clock starts: what sends them is not measured."""

from __future__ import annotations

import os
from abc import abstractmethod
from contextlib import ExitStack
from typing import Any, ClassVar

from celery import Celery, chain, chord
from redis import Redis

from b24offline import supervisor
from b24offline.supervisor import CeleryProcess, EmbeddedValkey
from benchmarks import bare_tasks
from benchmarks.contestant import DONE_VARIABLE, WORKER_PROCESSES, Contestant, contestant
from benchmarks.counts import Counts, of_ledger

_BATCH = 50


class _Bare(Contestant):
    """A worker of a bare application."""

    stores_results: ClassVar[bool] = False

    def start(self, started: ExitStack) -> None:
        values = {
            bare_tasks.BROKER_VARIABLE: self.broker.url,
            DONE_VARIABLE: str(self.done_file),
            "PYTHONPATH": os.getcwd(),
        }
        self._results: Redis | None = None
        backend = None
        if self.stores_results:
            results = started.enter_context(EmbeddedValkey(self.folder / "results"))
            self._results = started.enter_context(Redis.from_url(results.url))
            values[bare_tasks.BACKEND_VARIABLE] = backend = results.url
        command = ("worker", "-n", f"{self.name}@%h", "-c", str(WORKER_PROCESSES))
        self._worker = CeleryProcess(
            self.name,
            (*command, "--without-mingle", "--without-gossip"),
            environ=supervisor.child_environ(values),
            log_path=self.folder / "worker.log",
            application="benchmarks.bare_tasks",
        )
        started.callback(self._worker.kill)
        self._worker.start()
        self.app = Celery(broker=self.broker.url, backend=backend, set_as_current=False)
        self.app.conf.task_ignore_result = backend is None
        # Nobody waits for results here; forgotten ones would ask a server that has ended.
        self.app.backend.remove_pending_result = lambda result: result

    @property
    def process_ids(self) -> list[int]:
        return [self._worker.pid or 0]

    def counts(self) -> Counts:
        counts = self.broker.counts()
        if self._results is None:
            return counts
        commands, scripts = of_ledger(self._results)
        return Counts(counts.broker_commands, commands, scripts, counts.messages, counts.message_bytes)

    def task(self, name: str) -> Any:
        """Return the signature of one of the tasks."""
        return self.app.signature(f"benchmarks.bare_tasks.{name}")


def _reference(number: int) -> dict[str, object]:
    """Return what a handler of a change needs: which object changed, on which portal."""
    return {"portal": "acme", "event": "ONCRMDEALUPDATE", "entity": "crm_deal", "object_id": str(number)}


class _EventByEvent(_Bare):
    """One message an event to begin with."""

    def feed(self, count: int) -> None:
        with self.app.producer_pool.acquire(block=True) as producer:
            for number in range(count):
                self.send(number, producer)

    @abstractmethod
    def send(self, number: int, producer: Any) -> None:
        """Send what handles one event."""


@contestant
class BareChain(_EventByEvent):
    """The measure of all others."""

    name = "bare-chain"
    title = "bare Celery: chain of two"

    def send(self, number: int, producer: Any) -> None:
        first, second = self.task("first"), self.task("second")
        chain(first.clone(args=(_reference(number),)), second, app=self.app).apply_async(producer=producer)


@contestant
class BareTask(_EventByEvent):
    """What Celery reaches at most, at one message an event."""

    name = "bare-task"
    title = "bare Celery: one task (its ceiling)"

    def send(self, number: int, producer: Any) -> None:
        self.task("both").apply_async((_reference(number),), producer=producer)


@contestant
class BareChord(_Bare):
    """The canonical way to act once a batch is done: a chord of chains, its results stored."""

    name = "chord"
    title = "bare Celery: chord of 50 chains"
    stores_results = True

    def feed(self, count: int) -> None:
        for start in range(0, count, _BATCH):
            numbers = range(start, min(start + _BATCH, count))
            header = [
                chain(self.task("first").clone(args=(_reference(number),)), self.task("last"), app=self.app)
                for number in numbers
            ]
            chord(header, app=self.app)(self.task("settle"))
