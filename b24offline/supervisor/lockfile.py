"""One supervisor at a time on one data directory, and nothing left running of one that was killed.

Two locked files say so, and the kernel keeps both: ``up.lock`` is held by the supervisor alone, ``up.members`` by
every process that it started, too. Whoever holds the first and cannot get the second meets the rest of a killed one.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from b24offline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PATIENCE_SECONDS: Final = 3.0
"""How long the rest of a killed supervisor may take to end by itself."""
KILLED_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05


class SingleStart:
    """Held while the context lasts. ``members`` is the descriptor to hand to every process that is started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._lock = -1
        self.members = -1

    def __enter__(self) -> Self:
        """Raise ConfigError where another supervisor works on this data, its processes cannot be ended, or the folder
        cannot be used.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _opened(self._folder / "up.lock")
        except OSError as error:
            raise ConfigError(
                f"B24_DATA_DIR, {self._folder}, cannot be used: {error.strerror}. Name a folder that can be written to."
            ) from None
        if not _locked(self._lock):
            pid = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise ConfigError(
                f"b24offline up runs on {self._folder} already, as process {pid or 'of unknown id'}. "
                "Stop that one first, or give this one another B24_DATA_DIR."
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self.members = _opened(self._folder / "up.members")
        try:
            self._outlive_the_last()
        except ConfigError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self.members, self._lock):
            os.close(descriptor)

    def _outlive_the_last(self) -> None:
        """Wait for what a killed supervisor left running, and kill what does not end."""
        began = time.monotonic()
        while not _locked(self.members):
            passed = time.monotonic() - began
            left = list(_holders(self.members))
            if passed > PATIENCE_SECONDS:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            if passed > PATIENCE_SECONDS + KILLED_SECONDS:
                raise ConfigError(
                    f"Processes of an earlier b24offline up on {self._folder} do not end: "
                    f"{', '.join(map(str, left)) or 'their ids are unknown'}. End them, then start again."
                )
            time.sleep(_LOOK_SECONDS)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(descriptor: int) -> Iterator[int]:
    """Yield the other processes of this user that have the file open; known on Linux only."""
    wanted = os.fstat(descriptor)
    for folder in Path("/proc").glob("[0-9]*/fd"):
        pid = int(folder.parent.name)
        if pid != os.getpid() and _has_open(folder, wanted):
            yield pid


def _has_open(folder: Path, wanted: os.stat_result) -> bool:
    with suppress(OSError):  # the process has ended, or is another user's
        for entry in folder.iterdir():
            with suppress(OSError):
                if os.path.samestat(entry.stat(), wanted):
                    return True
    return False
