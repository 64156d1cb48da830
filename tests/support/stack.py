"""A deployment under test: the emulator, workers and beat as processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import kombu
from redis import Redis

from b24offline import supervisor
from b24offline.config import Config
from b24offline.contract import QUEUES
from b24offline.delivery import PortalServices
from b24offline.emulator import Control, EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import CeleryProcess
from demo.comparison import Comparison, compare
from tests.support.up_process import common_variables, portal_variables
from tests.support.waiting import NotInTime, wait_until

PORTAL = "acme"
CHAINS = "tests.support.chains"
SETTLE_SECONDS = 3.0
"""How long the next test waits for what the one before has left to do, before it starts processes of its own."""


def base_variables(
    emulator: EmulatorProcess, folder: Path, ledger_url: str, broker_url: str, time_scale: float
) -> dict[str, str]:
    """Return the settings of a deployment with the emulator's default portal."""
    return {
        **common_variables(folder),
        **portal_variables(emulator, PORTAL),
        "B24_REDIS_URL": ledger_url,
        "CELERY_BROKER_URL": broker_url,
        "B24OFFLINE_TEST_TIME_SCALE": str(time_scale),
    }


def empty_queues(url: str) -> None:
    """Delete our queues and empty that of the other stack: messages of an earlier test belong to nobody."""
    with kombu.Connection(url) as connection, connection.channel() as channel:
        for name in QUEUES:
            channel.queue_delete(name)  # whoever comes next declares them, of the type it wants
        queue = kombu.Queue("shop", kombu.Exchange("shop"), routing_key="shop")(channel)
        queue.declare()
        queue.purge()


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
        self._before: dict[str, int] = {}
        self._begun = 0

    def __enter__(self) -> Stack:
        with ExitStack() as started:
            self.emulator = started.enter_context(EmulatorProcess(objects=self._objects))
            self.control: Control = self.emulator.control()
            self.variables = {
                **base_variables(self.emulator, self.folder, self._ledger_url, self._broker_url, self._scale),
                **self._extra,
            }
            empty_queues(self._broker_url)
            self.runtime = Runtime(Config.load(self.variables))
            self.runtime.ensure_configured_portal()  # made before the workers race for it
            environ = supervisor.child_environ(self.variables)
            self.workers = self._make_workers(environ)
            self.beat = supervisor.beat(environ=environ, folder=self.folder)
            for process in (*self.workers, *([self.beat] if self._with_beat else [])):
                started.callback(process.kill)
                process.start()
            self._exit = started.pop_all()
        try:
            if self._bind:
                wait_until(self._bound, "events are bound at start")
        except BaseException:
            self.__exit__()
            self.show()
            raise
        return self

    def _bound(self) -> bool:
        """Return whether the portal has subscriptions. Fail at once where a worker did not start."""
        assert all(worker.alive for worker in self.workers), "a worker ended at its start"
        return bool(self.control.state()["bindings"])

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def show(self) -> None:
        """Print the ends of the workers' logs."""
        for process in self.workers:
            print(f"--- {process.name}\n{process.log_tail(6000)}")

    def _make_workers(self, environ: Mapping[str, str], epoch: str = "") -> list[CeleryProcess]:
        return [
            supervisor.worker(
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
        self.workers = self._make_workers(supervisor.child_environ({**self.variables, **variables}), "-next")
        for worker in self.workers:
            self._exit.callback(worker.kill)
            worker.start()

    @property
    def services(self) -> PortalServices:
        """The services of the portal, to look at its ledger."""
        return self.runtime.services(PORTAL)

    def begin(self) -> None:
        """Begin another test on this deployment: counters, history and comparison leave out what was before."""
        self._before = self.services.ledger.counters()
        self._begun = self.control.state()["seq"]

    @property
    def counters(self) -> dict[str, int]:
        """The portal's counters, since the test began."""
        now = self.services.ledger.counters()
        return {name: grown for name, count in now.items() if (grown := count - self._before.get(name, 0))}

    def settled(self) -> bool:
        """Return whether nothing is in the portal's queue and no batch is open."""
        return self.control.state()["records"] == 0 and not self.services.ledger.open_batches()

    def idle(self) -> bool:
        """Return whether another test can begin: the processes live, and soon nothing is left to do."""
        processes = [*self.workers, *([self.beat] if self._with_beat else [])]
        if not (self._bind and all(each.alive for each in processes) and self.control.state()["bindings"]):
            return False
        with suppress(NotInTime):
            return bool(wait_until(self.settled, "all is settled", seconds=SETTLE_SECONDS))
        return False

    def compare(self) -> Comparison:
        """Compare the mirror with the objects of the portal that have changed since the test began."""
        objects = self.control.objects(since_changes=True)
        before = {(each["entity"], each["id"]) for each in objects if each["changed"] <= self._begun}
        rows = [row for row in self.runtime.mirror.rows(PORTAL) if (row.entity, row.object_id) not in before]
        return compare([each for each in objects if each["changed"] > self._begun], rows)

    def history(self, what: str) -> list[dict[str, Any]]:
        """Return the entries of a kind in the history of all records, since the test began."""
        return [entry for entry in self.control.history(self._begun) if entry["kind"] == what]


class StandingStack:
    """A deployment that tests take over from each other; another one where the options or what was left say so."""

    def __init__(self, new_folder: Callable[[], Path], valkey_url: str) -> None:
        self._new_folder, self._url = new_folder, valkey_url
        self._wanted = ""
        self._stack: Stack | None = None

    def take(self, broker: str | None = None, **options: Any) -> Stack:
        """Return a stack with these options and nothing to do; what tests keep in Redis for its handlers is gone."""
        wanted = repr((broker or self._url, sorted(options.items())))
        redis = Redis.from_url(self._url)
        if self._stack is None or wanted != self._wanted or not self._stack.idle():
            self.close()
            redis.flushall()
            self._stack = Stack(self._new_folder(), self._url, broker or self._url, **options).__enter__()
            self._wanted = wanted
        else:
            for key in [*redis.scan_iter("test:*"), *redis.scan_iter("shop:*")]:
                redis.delete(key)
            self._stack.begin()
        return self._stack

    def show(self) -> None:
        """Print the logs of the workers."""
        if self._stack is not None:
            self._stack.show()

    def close(self) -> None:
        """End it."""
        if self._stack is not None:
            self._stack.__exit__()
            self._stack = None
