"""Runs a program that the kernel kills when the process that started it is gone, however that died.

Run as a file, by ``python -I -S tether.py PARENT PROGRAM ARGUMENTS``: it asks the kernel for the signal and becomes the
program. Linux only; elsewhere the program runs untethered.
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
    """Return the command that runs ``command`` tethered to this process. Start it from the main thread: threads
    count."""
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *command]


def main(parent: int, command: Sequence[str]) -> None:
    """Becomes the command, unless the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() == parent:
        os.execv(command[0], list(command))  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
