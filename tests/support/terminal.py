"""A terminal with a shell in it, for a test that types what a document says."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_PROMPT: Final = "<<$?>> "
_PROMPTED: Final = r"<<(\d+)>> $"
_STOP_SECONDS: Final = 30


class Terminal:
    """A shell that a test types into, and what it has shown. Leaving it hangs up, as closing its window does."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = {**environ, "PS1": _PROMPT, "TERM": "dumb", "COLUMNS": "120"}
        self._shown = ""
        self._read = 0

    def __enter__(self) -> Self:
        self._ours, theirs = os.openpty()
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=self._folder,
            env=self._environ,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.expect(_PROMPTED, 30)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        try:
            self._shell.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()

    @property
    def shown(self) -> str:
        """Everything that it has shown."""
        return self._shown

    def write(self, line: str) -> None:
        """Type a line and press Enter."""
        os.write(self._ours, f"{line}\n".encode())

    def expect(self, pattern: str, seconds: float) -> re.Match[str]:
        """Return the match of a pattern in what is shown after the last one. Raise AssertionError with all of it."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self._shown[self._read :], re.MULTILINE)):
            left = deadline - time.monotonic()
            assert left > 0, f"not within {seconds:g} s: {pattern}\n{self._shown}"
            ready, _, _ = select.select([self._ours], [], [], left)
            if ready:
                self._take()
        self._read += found.end()
        return found

    def run(self, line: str, seconds: float) -> tuple[int, str]:
        """Type a command and wait for its end. Return its exit status and what it showed."""
        before = self._read
        self.write(line)
        status = int(self.expect(_PROMPTED, seconds)[1])
        return status, self._shown[before : self._read]

    def interrupt(self, seconds: float) -> int:
        """Press Ctrl-C, and return the exit status of the command that it ends."""
        os.write(self._ours, b"\x03")
        return int(self.expect(_PROMPTED, seconds)[1])

    def _take(self) -> None:
        with suppress(OSError):  # the shell has gone; the deadline tells
            self._shown += os.read(self._ours, 65_536).decode("utf-8", "replace").replace("\r", "")
