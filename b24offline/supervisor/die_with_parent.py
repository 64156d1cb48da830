"""Run a program that the kernel kills when its parent process dies, for whatever reason.

Run as a file, ``python -I -S die_with_parent.py PARENT PROGRAM ARGUMENTS``, it asks the kernel for the signal and
becomes the program. On Linux only; elsewhere the program outlives its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_PR_SET_PDEATHSIG: Final = 1


def tethered(command: Sequence[str]) -> list[str]:
    """Return the command that runs ``command`` and dies with this process.

    Start it from the main thread: the kernel sends the signal when the thread ends.
    """
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def main(parent: int, command: Sequence[str]) -> None:
    """Become the command, unless the parent has died already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() == parent:
        os.execv(command[0], list(command))  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
