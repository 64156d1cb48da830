"""A deployment in processes of its own: workers and beat, on a Redis and a broker that the caller has."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from b24offline import supervisor
from b24offline.config import Config
from b24offline.ledger import error_lane
from b24offline.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from b24offline.delivery import PortalServices
    from b24offline.supervisor import CeleryProcess
    from b24offline.testing.emulated import EmulatedPortal

TIME_SCALE: Final = 0.05
START_SECONDS: Final = 240.0
DRAIN_SECONDS: Final = 120.0
_SHOWN_CHARACTERS: Final = 6000
_PAUSE_SECONDS: Final = 0.1


class NotInTime(AssertionError):
    """What a test waited for did not happen; the text has what the workers said."""


class Deployment:
    """Workers and beat for one emulated portal. Enter it to start them.

    Every timer of the protocol is shortened alike, and errors are shown with their texts; ``settings`` go before.
    """

    def __init__(
        self,
        portal: EmulatedPortal,
        folder: Path,
        redis_url: str,
        *,
        settings: Mapping[str, str] | None = None,
        workers: int = 1,
        concurrency: int = 2,
    ) -> None:
        self.portal = portal
        self.folder = folder
        self.settings = {
            **portal.settings,
            "B24_REDIS_URL": redis_url,
            "B24_DATA_DIR": str(folder / "data"),
            "B24_REQUESTS_PER_SECOND": "100",
            "B24_BURST": "200",
            "B24_POLL_INTERVAL_MAX_SECONDS": "1",
            "B24_SHOW_ERRORS": "text",
            "B24OFFLINE_TEST_TIME_SCALE": str(TIME_SCALE),
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            **(settings or {}),
        }
        environ = supervisor.child_environ(self.settings)
        self.workers = [
            supervisor.worker(f"worker{n}", environ=environ, folder=folder, concurrency=concurrency, queues=None)
            for n in range(workers)
        ]
        self.beat = supervisor.beat(environ=environ, folder=folder)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        self.runtime = Runtime(Config.load({k: v for k, v in self.settings.items() if k != "PYTHONPATH"}))
        with ExitStack() as started:
            started.callback(self.runtime.close)
            self.runtime.ensure_configured_portal()  # made before the workers race for it
            for process in self.processes:
                started.callback(process.kill)
                process.start()
            self.until(self._subscribed, "the events are subscribed", START_SECONDS)
            self._exit = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def processes(self) -> list[CeleryProcess]:
        """All that was started."""
        return [*self.workers, self.beat]

    @property
    def services(self) -> PortalServices:
        """What the product has for this portal, to look at its ledger."""
        return self.runtime.services(self.settings["B24_PORTAL_NAME"])

    def _subscribed(self) -> bool:
        return bool(self.portal.control.state()["bindings"])

    def settled(self) -> bool:
        """Return whether no event waits in the portal, and none is at work."""
        return self.portal.control.state()["records"] == 0 and not self.services.ledger.open_batches()

    def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait until every event has run to its end and is acknowledged. Raise `NotInTime`, with what the workers said.

        An event that fails is not acknowledged: it waits, nacked, and runs again.
        """
        self.until(self.settled, "all events are acknowledged", seconds)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = DRAIN_SECONDS) -> Any:
        """Return the first true answer of a condition. Raise `NotInTime`, with what the workers said."""
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            ended = [process.name for process in self.processes if not process.alive]
            if ended:
                raise NotInTime(f"{', '.join(ended)} ended, while waiting until {what}.\n{self.report()}")
            if time.monotonic() > deadline:
                raise NotInTime(f"Not within {seconds:g} s: {what}.\n{self.report()}")
            time.sleep(_PAUSE_SECONDS)
        return answer

    def mirrored(self, entity: str, object_id: str | int) -> Any:
        """Return the data of an object in the mirror; None where there is no row, or the object was deleted."""
        row = self.runtime.mirror.row(self.services.name, entity, str(object_id))
        return None if row is None else row.data

    def errors(self) -> list[str]:
        """Return the lines of warnings and errors in the workers' logs, tracebacks unfolded."""
        lines = [line for process in self.workers for line in process.log_tail(1 << 20).splitlines()]
        return [line.replace("\\n", "\n") for line in lines if " WARNING " in line or " ERROR " in line]

    def report(self) -> str:
        """Return what failed, the errors of the workers, and the end of the log of what ended."""
        failed = [
            f"{each.place}: {each.event} {each.object} in {each.pipeline}: {each.reason or '-'}"
            for each in error_lane(self.runtime.redis, self.services.ledger)
        ]
        errors = "\n".join(self.errors())[-_SHOWN_CHARACTERS:] or "The workers' logs have no errors."
        ends = [
            f"--- {process.name}\n{process.log_tail(_SHOWN_CHARACTERS)}"
            for process in self.processes
            if not process.alive
        ]
        return "\n".join([*failed, errors, *ends])
