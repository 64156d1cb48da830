"""What a fault row plays on: a whole deployment of real processes, its portal, its broker, and their enemies."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from redis import Redis
from redis.exceptions import RedisError

from b24offline import contract, failpoints, supervisor
from b24offline.config import Config
from b24offline.delivery import PortalServices
from b24offline.emulator import Control, EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import CeleryProcess, EmbeddedValkey
from tests.faults import evidence, holdings
from tests.faults.brokers import Broker, ValkeyBroker
from tests.faults.evidence import Evidence, Holding
from tests.faults.journal import VARIABLE, Journal, pipelines_of
from tests.faults.leaks import Wiretap, in_files
from tests.support.stack import PORTAL, base_variables, empty_queues
from tests.support.waiting import wait_until

CONNECTOR: Final = "b24offline"
START_SECONDS: Final = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How a row's deployment looks. ``variables`` go into its environment, ``arguments`` to its workers."""

    workers: int = 1
    concurrency: int = 3
    objects: int = 150
    scale: float = 0.05
    own_broker: bool = False
    with_beat: bool = True
    portals: tuple[str, ...] = ()
    limits_off: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


class Stage:
    """One deployment. ``broker`` None: a Valkey, that of the ledger unless the plan wants its own."""

    def __init__(self, folder: Path, plan: Plan, *, seed: int, broker: Broker | None = None) -> None:
        self.folder = folder
        self.plan = plan
        self.seed = seed
        self.rng = random.Random(seed)
        self.injected: list[str] = []
        self.failures: list[str] = []
        self.measured: list[str] = []
        self.holdings: defaultdict[str, list[Holding]] = defaultdict(list)
        self.last_fault = 0.0
        self.neighbours: list[CeleryProcess] = []
        self._given = broker
        self._veils: set[int] = set()
        self._exit = ExitStack()
        self._taps: list[Wiretap] = []

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self.valkey = started.enter_context(EmbeddedValkey(self.folder / "valkey"))
            self.ledger_server = ValkeyBroker(self.valkey)
            self.broker: Broker = self._given or self.ledger_server
            if self._given is None and self.plan.own_broker:
                self.broker = ValkeyBroker(started.enter_context(EmbeddedValkey(self.folder / "broker")))
            journal = started.enter_context(EmbeddedValkey(self.folder / "journal"))
            self.journal = Journal(journal.url)
            self.emulator = started.enter_context(
                EmulatorProcess(
                    objects=self.plan.objects,
                    seed=self.seed,
                    portals=self.plan.portals,
                    limits_off=self.plan.limits_off,
                    arguments=("--threads", "64"),
                )
            )
            self.control: Control = self.emulator.control()
            self.redis = Redis.from_url(self.valkey.url, decode_responses=True)
            self.crashes = self.folder / "crashes"
            self.crashes.mkdir(parents=True)
            self.variables = {**self._variables(journal.url), **self.plan.variables}
            empty_queues(self.broker.url)
            self.runtime = Runtime(Config.load(self.variables))
            self.runtime.ensure_configured_portal()
            self.environ = supervisor.child_environ(self.variables)
            self.workers = [self.new_worker(f"w{n}") for n in range(self.plan.workers)]
            self.beats = [self.new_beat("beat")]
            for server in {
                self.ledger_server.port,
                *([self.broker.port] if isinstance(self.broker, ValkeyBroker) else []),
            }:
                self._taps.append(Wiretap(server))
                self._taps[-1].start()
                started.callback(self._taps[-1].stop)
            started.callback(self._end_processes)
            for process in (*self.workers, *(self.beats if self.plan.with_beat else [])):
                process.start()
            if self.plan.with_beat:
                wait_until(lambda: self.control.state()["bindings"], "events are bound at start", START_SECONDS)
            self._exit = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _end_processes(self) -> None:
        for process in (*self.workers, *self.beats, *self.neighbours):
            process.kill()

    def _variables(self, journal_url: str) -> dict[str, str]:
        return {
            **base_variables(self.emulator, self.folder, self.valkey.url, self.broker.url, self.plan.scale),
            "B24_PIPELINES": "tests.faults.chains",
            VARIABLE: journal_url,
            failpoints.VARIABLE: str(self.crashes),
        }

    def new_worker(
        self, name: str, variables: Mapping[str, str] | None = None, queues: Sequence[str] = contract.QUEUES
    ) -> CeleryProcess:
        """Return a worker of this deployment, not started."""
        return supervisor.worker(
            name,
            environ={**self.environ, **(variables or {})},
            folder=self.folder,
            concurrency=self.plan.concurrency,
            queues=queues,
            arguments=self.plan.arguments,
        )

    def new_beat(self, name: str) -> CeleryProcess:
        """Return a beat of this deployment, not started."""
        return supervisor.beat(environ=self.environ, folder=self.folder, name=name)

    def borrow(self, thing: AbstractContextManager[T]) -> T:
        """Enter something that ends with this stage."""
        return self._exit.enter_context(thing)

    # -- what happens ----------------------------------------------------------------------------------------

    def change(self, count: int = 10, entity: str = "crm_deal", action: str = "update") -> list[str]:
        """Change objects. Return their ids."""
        return self.control.change(entity, action, count=count)

    def settle_some(self, count: int = 4) -> None:
        """Make a few changes and wait until they are settled, so that everything has worked before a fault."""
        self.change(count)
        wait_until(self.empty, "the first changes are settled", 90)

    @contextmanager
    def unseen(self) -> Iterator[None]:
        """Hold all reserving calls meanwhile, so that handlers can be given their orders for what changes inside."""
        veil = self.control.fault("event.offline.get", "hold", seconds=30)
        self._veils.add(veil)
        try:
            yield
        finally:
            self.control.disarm(veil)

    @contextmanager
    def meets(self, match: str, kind: str, seconds: float = 60.0, **plan: Any) -> Iterator[int]:
        """Arm trouble, and wait at the end until a call of the traffic inside has met it, which is the fault."""
        armed = self.control.fault(match, kind, **plan)
        yield armed
        wait_until(lambda: self.control.fired(armed), f"{kind} of {match}", seconds)
        self.noted(f"{kind} of {match}")

    def begin(self, changes: int, effects: int) -> None:
        """Change deals, and wait until some of the handlers have had their effect."""
        before = self.journal.count("effect")
        self.change(changes)
        wait_until(lambda: self.journal.count("effect") >= before + effects, "handlers run", 90)

    def connect(self, name: str) -> Control:
        """Let the deployment serve another portal of the emulator. Return its control."""
        there = self.emulator.hello["portals"][name]
        self.runtime.store.portals.seed(
            name,
            client_endpoint=there["client_endpoint"],
            auth_url=self.emulator.auth_url,
            client_id=self.emulator.client_id,
            client_secret=self.emulator.client_secret,
            connector=CONNECTOR,
            refresh_token=there["refresh_token"],
        )
        return self.emulator.control(name)

    def move(self, endpoint: str, portal: str = PORTAL) -> None:
        """Give a portal another address in the store, with its tokens, as an operator does."""
        self.runtime.store.portals.set_endpoint(portal, endpoint)

    def noted(self, what: str) -> None:
        """Note that a fault was injected now."""
        self.injected.append(what)
        self.last_fault = time.time()

    def arm(self, point: str, whom: str = "group") -> None:
        """Let the next process that comes to a failpoint die there."""
        (self.crashes / f"{point}.new").write_text(whom)
        (self.crashes / f"{point}.new").rename(self.crashes / point)

    def disarm(self) -> None:
        """Disarm all failpoints."""
        for armed in self.crashes.iterdir():
            armed.unlink(missing_ok=True)

    def await_crash(self, point: str, seconds: float = 60.0) -> None:
        """Wait until a process died at a failpoint, note it, and start the workers again."""
        wait_until((self.crashes / f"{point}.fired").exists, f"a process dies at {point}", seconds)
        (self.crashes / f"{point}.fired").unlink()
        wait_until(lambda: not all(worker.alive for worker in self.workers), f"a worker is dead at {point}", 60)
        self.noted(f"SIGKILL at {point}")
        self.restart()

    def kill_at_call(self, match: str, stage: str, seconds: float = 60.0, **where: Any) -> None:
        """Kill all workers while a call of theirs is under way (``stage``: executed or not), then start them again."""
        fault = self.control.fault(match, "hold", stage=stage, times=1, seconds=30, where=where)
        wait_until(lambda: self.control.held(fault), f"{match} is under way", seconds)
        self.kill()
        self.noted(f"SIGKILL {stage} {match}")
        self.control.disarm(fault)
        self.restart()

    def kill(self) -> None:
        """Send SIGKILL to every worker and its children."""
        for worker in self.workers:
            worker.kill()

    def restart(self) -> None:
        """Start the workers that are dead."""
        for worker in self.workers:
            if not worker.alive:
                worker.kill()
                worker.start()

    def revive(self) -> None:
        """Start again what has ended, as a supervisor does."""
        self.restart()
        for beat in self.beats:
            if not beat.alive:
                beat.kill()
                beat.start()

    def kill_everything(self) -> None:
        """Send SIGKILL to workers, beats, ledger and broker, without a pause between them."""
        together = (*self.workers, *self.beats)
        for one in together:
            if one.alive and one.pid:
                with suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)
        self.ledger_server.kill()
        if self.broker is not self.ledger_server:
            self.broker.kill()
        for one in together:
            one.kill()

    def start_everything(self) -> None:
        """Start what `kill_everything` killed: servers first, as an orchestrator does."""
        self.ledger_server.start()
        if self.broker is not self.ledger_server:
            self.broker.start()
        for one in (*self.workers, *self.beats):
            one.start()

    def tell(self, what: str) -> None:
        """Keep a figure that the row measured, to be shown with its result."""
        self.measured.append(what)

    def expect(self, true: object, what: str) -> None:
        """Fail the row with ``what`` unless this is true."""
        if not true:
            self.failures.append(what)

    def weigh(self, portal: str = PORTAL) -> None:
        """Take a sample of what the ledger holds of a portal, which the checker judges at the end."""
        self.holdings[portal].append(holdings.held(self.redis, self.runtime.services(portal).ledger.stem))

    def missed(self) -> list[str]:
        """Return what was to go wrong and never did: a row that is green although it met no fault shows nothing."""
        plans = [one for one in self.control.faults() if not one["fired"] and one["id"] not in self._veils]
        return [
            *(f"{one['kind']} of {one['match']} was armed and never met a call" for one in plans),
            *(f"nobody came to the failpoint {one.name}" for one in self.crashes.iterdir()),
            *(f"no handler ever did what it was told: {reply}" for reply in sorted(self.journal.unheeded())),
        ]

    # -- how it stands ---------------------------------------------------------------------------------------

    @property
    def services(self) -> PortalServices:
        """The portal's objects, for looking at the ledger."""
        return self.runtime.services(PORTAL)

    @property
    def counters(self) -> dict[str, int]:
        """The ledger's counters."""
        return self.services.ledger.counters()

    def known(self, portal: str = PORTAL) -> frozenset[int]:
        """Return the records that the deployment says are retrying or dead-lettered."""
        ledger = self.runtime.services(portal).ledger
        retrying = {
            record
            for process_id in ledger.open_batches()
            for record, event in ledger.events(process_id).items()
            if event.nacked
        }
        return frozenset(
            retrying
            | {dead_letter.record_id for dead_letter in self.runtime.store.dead_letters.list(portal, limit=10_000)}
        )

    def empty(self) -> bool:
        """Return whether nothing is in the portal's queue, on its way there, or open here."""
        with suppress(RedisError):
            state = self.control.state()
            return not (state["records"] or state["late_calls"] or self.services.ledger.open_batches())
        return False

    def at_rest(self) -> bool:
        """Return whether all that is left in the portal's queue is nacked, retrying or dead-lettered."""
        with suppress(RedisError):
            if self.control.state()["late_calls"]:
                return False
            known = self.known()
            return all(one["nacked"] or one["id"] in known for one in self.control.records())
        return False

    def history(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the entries of some kinds in the history of records."""
        return [one for one in self.control.history() if one["kind"] in kinds]

    def calls(self, method: str, after: int = 0) -> list[dict[str, Any]]:
        """Return the executed calls of a method."""
        return [one for one in self.control.requests(after) if one["method"] == method and one["status"] is not None]

    def evidence(self, portal: str = PORTAL) -> Evidence:
        """Return everything the checker looks at, of one portal."""
        control = self.control if portal == PORTAL else self.emulator.control(portal)
        return Evidence(
            moments=evidence.moments(one for one in control.history() if one["connector"] == CONNECTOR),
            changes=evidence.changes(one for one in control.changes() if one["connector"] != CONNECTOR),
            spans=evidence.spans(self.journal.lines(), portal),
            pipelines=pipelines_of(self.variables["B24_PIPELINES"]),
            known=self.known(portal),
            objects=evidence.objects(control.objects(since_changes=True)),
            holdings=tuple(self.holdings[portal]),
            bounds=holdings.allowed(self.runtime.config),
        )

    @property
    def deaf(self) -> bool:
        """Whether a wiretap heard nothing at all, so that its silence about leaks means nothing."""
        return any(tap.lines == 0 for tap in self._taps)

    def leaks(self) -> set[str]:
        """Return tokens and customers' fields found where they must not be."""
        heard = {one for tap in self._taps for one in tap.found}
        return heard | in_files([*self.folder.glob("*.log"), *self.broker.files()])
