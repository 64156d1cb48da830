"""Row 30: the wall clock of one worker jumps. Needs libfaketime, which turns the clock of that process alone."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Final

from tests.faults.row import Plan, fault
from tests.faults.stage import Stage, wait_until

VARIABLE: Final = "B24OFFLINE_TEST_FAKETIME"
"""Where the library is, if it is not installed for the system."""
_PLACES: Final = ("lib/*/faketime", "lib/faketime", "lib64/faketime", "local/lib/faketime")
"""Where Debian, Arch, Fedora and `make install` put it, below ``/usr``."""
LIBRARY: Final = Path(
    os.environ.get(VARIABLE)
    or next((one for place in _PLACES for one in Path("/usr").glob(f"{place}/libfaketime.so.1")), "/no/libfaketime")
)
PACKAGE: Final = "libfaketime"


JUMP_SECONDS: Final = 3600


def _jump(stage: Stage, offset: str) -> None:
    """A second worker whose clock jumps while it works; monotonic time goes on, as it does on a real machine."""
    reply = stage.folder / "clock"
    reply.write_text("+0\n")
    clock = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(reply),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    stage.workers.append(stage.new_worker("w-clock", clock).start())
    wait_until(lambda: "ready." in stage.workers[-1].log_tail(20000), "the second worker is ready", 60)
    stage.settle_some()
    stage.journal.tell("slow", 0.3)
    stage.begin(20, 4)
    reply.write_text(f"{offset}\n")
    stage.noted(f"the clock of one worker jumps {offset}")
    stage.change(15, "crm_contact")
    stage.journal.tell("fail", times=4)
    stage.change(10, "crm_company")
    polls = len(stage.calls("event.offline.get"))
    wait_until(lambda: len(stage.calls("event.offline.get")) >= polls + 5, "polls go on", 40)
    wait_until(lambda: _is_off(stage), "a handler runs by the wrong clock", 60)


def _is_off(stage: Stage) -> bool:
    """Return whether a handler's clock was far from the journal's."""
    rows = (json.loads(line) for line in stage.journal.lines())
    return any(abs(row["clock"] - row["wall"]) > JUMP_SECONDS / 2 for row in rows if "clock" in row)


for name, offset in (("ahead", "+1h"), ("back", "-1h")):
    fault(
        30,
        f"a worker's clock jumps 1 h {name}",
        needs=LIBRARY,
        package=PACKAGE,
        plan=Plan(concurrency=2),
        drain_seconds=120,
    )(partial(_jump, offset=offset))
