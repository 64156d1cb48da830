"""One supervisor at a time on a data directory, and no processes left over from a killed one.

Two files are locked, and the kernel releases the locks: ``up.lock`` is locked by the supervisor alone, ``up.members``
also by every process that it started. Where the first can be locked and the second cannot, processes of a killed
supervisor still run.
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
"""How long the processes of a killed supervisor may take to end by themselves."""
KILLED_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.05


class SingleStart:
    """Holds the locks while the context lasts. ``members`` is the descriptor that every started process inherits."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._lock = -1
        self.members = -1

    def __enter__(self) -> Self:
        """Take the locks. Raise `ConfigError` where another supervisor has them, processes of a killed one do not end,
        or the folder cannot be used.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _opened(self._folder / "up.lock")
        except OSError as error:
            raise ConfigError(
                f"B24_DATA_DIR {self._folder} cannot be used: {error.strerror}. Set it to a writable folder."
            ) from None
        if not _locked(self._lock):
            pid = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise ConfigError(
                f"b24offline up is already running on {self._folder}, as process {pid or 'of unknown id'}. "
                "Stop it first, or set another B24_DATA_DIR for this one."
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        self.members = _opened(self._folder / "up.members")
        try:
            self._await_former_members()
        except ConfigError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self.members, self._lock):
            os.close(descriptor)

    def _await_former_members(self) -> None:
        """Wait for the processes that a killed supervisor left, and kill those that do not end."""
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
                    f"Processes of an earlier b24offline up on {self._folder} are still running: "
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
