"""This product: from the record that waits on the portal to its acknowledgement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import ClassVar

from redis import Redis

from b24offline import supervisor
from b24offline.config import Config
from b24offline.emulator import EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey
from benchmarks.contestant import DONE_VARIABLE, WORKER_PROCESSES, Contestant, contestant
from benchmarks.counts import Counts, of_ledger
from benchmarks.pipelines import CHANGED, PIPELINE_VARIABLE
from tests.support.waiting import wait_until

PORTAL = "acme"


class Ours(Contestant):
    """A worker and a beat of this product, and an emulated portal without limits.

    The records wait on the portal when the clock starts; it stops when all are acknowledged.
    """

    pipeline: ClassVar[str]
    concurrency: int = WORKER_PROCESSES
    pool: str = "prefork"

    def settings(self, started: ExitStack) -> Mapping[str, str]:
        """Return the settings that differ from those of the others; what they need ends with ``started``."""
        del started
        return {}

    def start(self, started: ExitStack) -> None:
        ledger = started.enter_context(EmbeddedValkey(self.folder / "ledger"))
        self._redis = started.enter_context(Redis.from_url(ledger.url))
        emulator = started.enter_context(EmulatorProcess(objects=10))
        self._control = emulator.control()
        values = {
            "B24_REDIS_URL": ledger.url,
            "CELERY_BROKER_URL": self.broker.url,
            "B24_RABBITMQ_QUEUES": "classic",  # as the bare contestants have them
            "B24_DATA_DIR": str(self.folder / "data"),
            "B24_PORTAL_NAME": PORTAL,
            "B24_PORTAL_URL": emulator.rest,
            "B24_AUTH_URL": emulator.auth_url,
            "B24_LOOPBACK_HTTP": "true",
            "B24_CLIENT_ID": emulator.client_id,
            "B24_CLIENT_SECRET": emulator.client_secret,
            "B24_REFRESH_TOKEN": str(emulator.hello["refresh_token"]),
            "B24_EVENTS": CHANGED,
            "B24_PIPELINES": "benchmarks.pipelines",
            "B24_REQUESTS_PER_SECOND": "100",
            "B24_BURST": "1000",
            "B24_POLL_INTERVAL_MAX_SECONDS": "1",
            "B24_LOG_LEVEL": "WARNING",  # Celery's own default
            **self.settings(started),
        }
        self.runtime = Runtime(Config.load(values))
        started.callback(self.runtime.close)
        self.runtime.ensure_configured_portal()
        self.environ = supervisor.child_environ(
            {
                **values,
                PIPELINE_VARIABLE: self.pipeline,
                DONE_VARIABLE: str(self.done_file),
                "PYTHONPATH": os.getcwd(),
            }
        )
        self._worker = supervisor.worker(
            self.name,
            environ=self.environ,
            folder=self.folder,
            concurrency=self.concurrency,
            arguments=["--pool", self.pool],
        )
        self._beat = supervisor.beat(environ=self.environ, folder=self.folder)
        for process in (self._worker, self._beat):
            started.callback(process.kill)
            process.start()
        wait_until(self._subscribed, "the event is subscribed")

    def _subscribed(self) -> bool:
        if not self._worker.alive:
            raise RuntimeError(f"the worker ended: {self._worker.log_tail()}")
        return bool(self._control.state()["bindings"])

    @property
    def process_ids(self) -> list[int]:
        return [self._worker.pid or 0]

    @property
    def other_process_ids(self) -> list[int]:
        return [self._beat.pid or 0]

    def feed(self, count: int) -> None:
        self._control.backlog(count, entities=["crm_deal"])

    def wake(self) -> None:
        self.runtime.services(PORTAL).waker.wake()

    def finished(self, handled: int) -> bool:
        return super().finished(handled) and self.acknowledged()

    def acknowledged(self) -> bool:
        """Return whether the portal has no record left, and the ledger no batch."""
        return self._control.state()["records"] == 0 and not self.runtime.services(PORTAL).ledger.open_batches()

    def counts(self) -> Counts:
        commands, scripts = of_ledger(self._redis)
        requests = sum(self._control.state()["requests"].values())
        return replace(self.broker.counts(), ledger_commands=commands, script_calls=scripts, requests=requests)


@contestant
class ChainMode(Ours):
    """Each step in a message of its own."""

    name = "chain"
    title = "b24offline: chain of two"
    pipeline = "chain"


@contestant
class FusedMode(Ours):
    """Both steps in one message."""

    name = "fused"
    title = "b24offline: fused, two steps"
    pipeline = "fused"


@contestant
class FusedModeReading(Ours):
    """The same with every object read from the portal, in bulk."""

    name = "fused-read"
    title = "b24offline: fused, two steps, every object read"
    pipeline = "read"
