"""What the demo runs: an embedded Valkey, the emulator, two workers and beat, all in one folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import Redis

from b24offline import keys, supervisor
from b24offline.config import Config
from b24offline.emulator import Control, EmulatorProcess
from b24offline.runtime import Runtime
from b24offline.supervisor import EmbeddedValkey

PORTAL = "demo"
TIME_SCALE = 0.05
"""Leases and waits of minutes become seconds, so that a killed worker's work comes back within the demo."""
REQUESTS_PER_SECOND, BURST = 5, 250
"""The limits of an Enterprise portal, kept by the emulator and by our rate limiter."""


@dataclass
class Progress:
    """The state that the view shows: records now, counters since the start."""

    free: int
    reserved: int
    nacked: int
    open_batches: int
    rows: int
    counters: dict[str, int]

    @property
    def drained(self) -> bool:
        """Whether no record waits and no batch is open."""
        return not (self.free or self.reserved or self.nacked or self.open_batches)

    @property
    def acknowledged(self) -> int:
        """How many events were acknowledged."""
        return self.counters.get("events_acknowledged", 0)


class Stack:
    """Start everything on entry and end it on exit."""

    def __init__(self, folder: Path, *, objects: int, seed: int) -> None:
        self.folder = folder
        self._objects = objects
        self._seed = seed
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            self.valkey = started.enter_context(EmbeddedValkey(self.folder / "valkey"))
            self.emulator = started.enter_context(
                EmulatorProcess(objects=self._objects, seed=self._seed, limits_off=False)
            )
            self.control: Control = self.emulator.control()
            self.control.limits(drain=REQUESTS_PER_SECOND, holds=BURST)
            self.variables = self._variables()
            environ = supervisor.child_environ(self.variables)
            self.config = Config.load(self.variables)
            self.runtime = Runtime(self.config)
            self.runtime.ensure_configured_portal()
            self.workers = [
                supervisor.worker(f"worker-{n}", environ=environ, folder=self.folder, concurrency=3, events=True)
                for n in (1, 2)
            ]
            for process in (*self.workers, supervisor.beat(environ=environ, folder=self.folder)):
                started.callback(process.stop, 10)
                process.start()
            self._exit = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def _variables(self) -> dict[str, str]:
        return {
            "B24_REDIS_URL": self.valkey.url,
            "B24_DATA_DIR": str(self.folder / "data"),
            "B24_PORTAL_NAME": PORTAL,
            "B24_PORTAL_URL": self.emulator.rest,
            "B24_AUTH_URL": self.emulator.auth_url,
            "B24_LOOPBACK_HTTP": "true",
            "B24_CLIENT_ID": self.emulator.client_id,
            "B24_CLIENT_SECRET": self.emulator.client_secret,
            "B24_REFRESH_TOKEN": str(self.emulator.hello["refresh_token"]),
            "B24_PIPELINES": "demo.pipelines",
            "B24OFFLINE_TEST_TIME_SCALE": str(TIME_SCALE),
            "B24_REQUESTS_PER_SECOND": str(REQUESTS_PER_SECOND),
            "B24_BURST": str(BURST),
            "B24_POLL_INTERVAL_MAX_SECONDS": "2",
        }

    @property
    def bound(self) -> bool:
        """Whether the workers have subscribed their events."""
        ledger: Redis = self.runtime.redis
        return bool(ledger.exists(keys.bound(self.runtime.services(PORTAL).ledger.stem)))

    def progress(self) -> Progress:
        """Return the state now."""
        state = self.control.state()
        ledger = self.runtime.services(PORTAL).ledger
        return Progress(
            free=int(state["free"]),
            reserved=int(state["reserved"]),
            nacked=int(state["nacked"]),
            open_batches=len(ledger.open_batches()),
            rows=self.runtime.mirror.count(PORTAL),
            counters=ledger.counters(),
        )

    def requests(self) -> int:
        """Return how many requests the portal has been sent, as it counted them itself."""
        return sum(self.control.state()["requests"].values())
