"""A deployment under test: the emulator, workers and beat as processes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kombu

from b24offline.config import Config
from b24offline.contract import QUEUES
from b24offline.delivery import PortalServices
from b24offline.emulator import Control, EmulatorProcess
from b24offline.runtime import Runtime
from demo import processes
from demo.comparison import Comparison, compare
from demo.processes import CeleryProcess
from tests.support.waiting import wait_until

PORTAL = "acme"
CHAINS = "tests.support.chains"


class Stack:
    """One deployment. ``variables`` are added to its environment, or replace what it has."""

    def __init__(
        self,
        folder: Path,
        ledger_url: str,
        broker_url: str,
        *,
        workers: int = 1,
        concurrency: int = 3,
        objects: int = 60,
        time_scale: float = 0.05,
        bind: bool = True,
        all_queues: bool = False,
        with_beat: bool = True,
        variables: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self._ledger_url, self._broker_url = ledger_url, broker_url
        self._count, self._concurrency, self._arguments = workers, concurrency, arguments
        self._objects, self._scale, self._bind = objects, time_scale, bind
        self._with_beat = with_beat
        self._queues = None if all_queues else QUEUES
        self._extra = dict(variables or {})
        self._exit = ExitStack()

    def __enter__(self) -> Stack:
        with ExitStack() as started:
            self.emulator = started.enter_context(EmulatorProcess(objects=self._objects))
            self.control: Control = self.emulator.control()
            self.variables = {**self._default_variables(), **self._extra}
            self._purge()
            self.runtime = Runtime(Config.load(self.variables))
            self.runtime.ensure_configured_portal()  # made before the workers race for it
            environ = processes.child_environ(self.variables)
            self.workers = self._make_workers(environ)
            self.beat = processes.beat(environ=environ, folder=self.folder)
            for process in (*self.workers, *([self.beat] if self._with_beat else [])):
                started.callback(process.kill)
                process.start()
            self._exit = started.pop_all()
        try:
            if self._bind:
                wait_until(self._bound, "events are bound at start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def _bound(self) -> bool:
        """Return whether the portal has subscriptions. Fail at once where a worker did not start."""
        assert all(worker.alive for worker in self.workers), "a worker ended at its start"
        return bool(self.control.state()["bindings"])

    def __exit__(self, *_: object) -> None:
        self._exit.close()
        for process in self.workers:
            print(f"--- {process.name}\n{process.log_tail(6000)}")

    def _make_workers(self, environ: Mapping[str, str], epoch: str = "") -> list[CeleryProcess]:
        return [
            processes.worker(
                f"w{n}{epoch}",
                environ=environ,
                folder=self.folder,
                concurrency=self._concurrency,
                queues=self._queues,
                arguments=self._arguments,
            )
            for n in range(self._count)
        ]

    def replace_workers(self, **variables: str) -> None:
        """Stop all workers and start as many with other variables, as a deployment of another version does."""
        for worker in self.workers:
            worker.stop()
        self.workers = self._make_workers(processes.child_environ({**self.variables, **variables}), "-next")
        for worker in self.workers:
            self._exit.callback(worker.kill)
            worker.start()

    def _default_variables(self) -> dict[str, str]:
        return {
            "B24_REDIS_URL": self._ledger_url,
            "CELERY_BROKER_URL": self._broker_url,
            "B24_DATA_DIR": str(self.folder / "data"),
            "B24_PORTAL_URL": self.emulator.rest,
            "B24_PORTAL_NAME": PORTAL,
            "B24_CLIENT_ID": self.emulator.client_id,
            "B24_CLIENT_SECRET": self.emulator.client_secret,
            "B24_REFRESH_TOKEN": str(self.emulator.hello["refresh_token"]),
            "B24_AUTH_URL": self.emulator.auth_url,
            "B24OFFLINE_TEST_TIME_SCALE": str(self._scale),
            "B24_REQUESTS_PER_SECOND": "100",
            "B24_BURST": "200",
            "B24_POLL_INTERVAL_MAX_SECONDS": "1",
        }

    def _purge(self) -> None:
        """Delete the queues, and so the messages, of earlier tests."""
        with kombu.Connection(self._broker_url) as connection, connection.channel() as channel:
            for name in QUEUES:
                channel.queue_delete(name)  # each test declares them of the type it needs
            queue = kombu.Queue("shop", kombu.Exchange("shop"), routing_key="shop")(channel)
            queue.declare()
            queue.purge()

    @property
    def services(self) -> PortalServices:
        """The services of the portal, to look at its ledger."""
        return self.runtime.services(PORTAL)

    @property
    def counters(self) -> dict[str, int]:
        """The portal's counters."""
        return self.services.ledger.counters()

    def settled(self) -> bool:
        """Return whether nothing is in the portal's queue and no batch is open."""
        return self.control.state()["records"] == 0 and not self.services.ledger.open_batches()

    def compare(self) -> Comparison:
        """Compare the mirror with the portal."""
        return compare(self.control.objects(since_changes=True), self.runtime.mirror.rows(PORTAL))

    def history(self, what: str) -> list[dict[str, Any]]:
        """Return the entries of a kind in the history of all records."""
        return [entry for entry in self.control.history() if entry["kind"] == what]
