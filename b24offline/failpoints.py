"""Named places between two steps of the protocol where a fault run may kill the process. Inert in production.

A fault run names a folder in `B24OFFLINE_TEST_FAILPOINTS` and puts a file named after a point into it. The first
process that reaches the point renames the file and dies: alone if the file says "child", else with the whole process
group of its worker.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

VARIABLE: Final = "B24OFFLINE_TEST_FAILPOINTS"
"""Names the folder; unset everywhere but in fault runs. Not a setting, hence without the prefix of those."""

_folder: Final = os.environ.get(VARIABLE)


def failpoint(name: str) -> None:
    """Die by SIGKILL when a fault run armed the point ``name``; return at once otherwise."""
    if _folder is None:
        return
    armed = Path(_folder, name)
    try:
        whom = armed.read_text("utf-8")
        armed.rename(Path(_folder, f"{name}.fired"))
    except FileNotFoundError:
        return
    if whom == "child":
        os.kill(os.getpid(), signal.SIGKILL)
    os.killpg(os.getpgrp(), signal.SIGKILL)
