"""One process under a supervisor: started, watched, its output read, restarted, ended."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from b24offline.supervisor.die_with_parent import tethered
from b24offline.supervisor.heartbeats import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 30.0
WELL_SECONDS: Final = 60.0
"""After a process has run this long, its restart waits begin anew."""
_ERROR_AFTER: Final = 3
_LONGEST_LINE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. ``environ`` is its whole environment, ``descriptors`` are inherited.

    ``heartbeat_file`` is touched by the process while it is well; None: it is not watched for hanging.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    descriptors: tuple[int, ...] = ()
    heartbeat_file: Path | None = None


def wait_after(lived_seconds: float, waited_seconds: float) -> float:
    """Return the seconds before a process that died is restarted, by how long it lived and the wait before that."""
    if lived_seconds >= WELL_SECONDS or not waited_seconds:
        return FIRST_WAIT_SECONDS
    return min(LONGEST_WAIT_SECONDS, waited_seconds * 2)


class Supervised:
    """A program's process, in its own session; it dies with this one. ``say`` gets its name and each line."""

    def __init__(self, program: Program, selector: selectors.BaseSelector, say: Callable[[str, str], None]) -> None:
        self._program = program
        self._selector = selector
        self._say = say
        self.heartbeat = Heartbeat(program.heartbeat_file) if program.heartbeat_file else None
        self._process: subprocess.Popen[bytes] | None = None
        self._output = -1
        self._rest = b""
        self._started_at = 0.0
        self._waited_seconds = 0.0
        self._deaths = 0
        self._start_at: float | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process; where that fails, try again as if it had died."""
        self._start_at = None
        self._started_at = time.monotonic()
        if self.heartbeat:
            self.heartbeat.begin()
        try:
            self._process, self._output = self._launch()
        except OSError as error:  # no memory, no descriptors, or an interpreter that is being replaced
            self._start_later("process cannot be started, retrying", why=error.strerror)
            return
        self._selector.register(self._output, selectors.EVENT_READ, self)
        log.info("process started", extra={"program": self._program.name, "process_id": self._process.pid})

    def look_after(self) -> None:
        """Note a death, and restart the process when its wait is over."""
        if self._start_at is not None:
            if time.monotonic() >= self._start_at:
                self.start()
        elif self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            self._bury()
            self._start_later("process died, restarting", status=status)

    def kill_hung(self) -> None:
        """Kill the process without waiting for its death: it may be blocked in the kernel and die later."""
        if self._process is None or self.heartbeat is None:
            return
        log.warning(
            "process hangs, killing it",
            extra={"program": self._program.name, "silent_seconds": round(self.heartbeat.missed_seconds)},
        )
        self.heartbeat.begin()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM; the process is not restarted."""
        self._start_at = None
        if self._process is not None and self.alive:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill what is left of the process and its children."""
        if self._process is not None:
            self._bury()

    def read(self) -> bool:
        """Pass on its output, whole lines only. Return False when there was none, or the pipe has ended."""
        try:
            data = os.read(self._output, _LONGEST_LINE)
        except BlockingIOError:
            return False
        if not data:
            self._close_output()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._pass_on(line)
        return True

    def _launch(self) -> tuple[subprocess.Popen[bytes], int]:
        """Return a new process, and where to read its output."""
        program = self._program
        reading, writing = os.pipe()
        try:
            os.set_blocking(reading, False)
            process = subprocess.Popen(  # noqa: S603 - our own command
                tethered(program.command),
                cwd=program.folder,
                env=dict(program.environ),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=program.descriptors,
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return process, reading

    def _start_later(self, what: str, **more: object) -> None:
        """Plan the next start, and log why."""
        lived = time.monotonic() - self._started_at
        self._waited_seconds = wait_after(lived, self._waited_seconds)
        self._deaths = 1 if lived >= WELL_SECONDS else self._deaths + 1
        self._start_at = time.monotonic() + self._waited_seconds
        log.log(
            logging.ERROR if self._deaths >= _ERROR_AFTER else logging.WARNING,
            what,
            extra={
                "program": self._program.name,
                **more,
                "in_seconds": self._waited_seconds,
                "deaths": self._deaths,
            },
        )

    def _bury(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # A worker's children are in its group: they must not run beside those of the next worker.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while self._output >= 0 and self.read():
            pass
        self._close_output()

    def _close_output(self) -> None:
        if self._output >= 0:
            self._selector.unregister(self._output)
            os.close(self._output)
            self._output = -1
        if self._rest:
            self._pass_on(self._rest)
            self._rest = b""

    def _pass_on(self, line: bytes) -> None:
        self._say(self._program.name, line.decode("utf-8", "replace").rstrip("\r"))
