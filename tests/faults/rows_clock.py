"""Row 30: the wall clock of one worker jumps; row 51: that of the ledger. Needs libfaketime, which turns the clock of
that process alone."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from demo.comparison import compare
from tests.faults.row import Plan, fault
from tests.faults.stage import PORTAL, Stage, wait_until
from tests.support.waiting import comes

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


def _turned_by(reply: Path) -> dict[str, str]:
    """Return the environment of a process whose clock is off by what this file says."""
    reply.write_text("+0\n")
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(reply),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _jump(stage: Stage, offset: str) -> None:
    """A second worker whose clock jumps while it works; monotonic time goes on, as it does on a real machine."""
    reply = stage.folder / "clock"
    stage.workers.append(stage.new_worker("w-clock", _turned_by(reply)).start())
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


def _clock_of_ledger(stage: Stage) -> Path:
    """Let the ledger begin anew under a clock that can be set. Return the file that sets it."""
    reply = stage.folder / "ledger-clock"
    stage.ledger_server.kill()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _turned_by(reply).items():
            patch.setenv(name, value)
        stage.ledger_server.start()
    stage.settle_some()
    return reply


def ledger_set_back(stage: Stage) -> None:
    """While a reserving call is under way, whose objects were read shortly before; and right again after a while."""
    clock = _clock_of_ledger(stage)
    deals = stage.change(10)
    wait_until(stage.empty, "the deals are mirrored", 90)
    poll = stage.control.fault("event.offline.get", "hold", times=1, seconds=60, where={"error": "0"})
    wait_until(lambda: stage.control.held(poll), "a poll is under way", 60)
    stage.control.change("crm_deal", "update", ids=deals)
    clock.write_text("-1h\n")
    stage.noted("the ledger's clock is set back by an hour")
    stage.control.disarm(poll)
    stage.change(10, "crm_contact")
    comes(lambda: len(stage.history("cleared")) >= ACKNOWLEDGED, BACK_SECONDS)
    _compare_acknowledged(stage, deals)
    clock.write_text("+0\n")
    stage.noted("it is right again")


ACKNOWLEDGED: Final = 4 + 10 + 10
"""Records that are acknowledged at first, and those of the deals for the second time."""
BACK_SECONDS: Final = 15.0
OWN_BROKER: Final = Plan(own_broker=True, concurrency=2)


def _compare_acknowledged(stage: Stage, deals: list[str]) -> None:
    """The mirror has each of these deals of which every record is acknowledged."""
    waiting = {str(one["subject"][1]) for one in stage.control.records() if one["subject"][0] == "crm_deal"}
    found = compare(stage.control.objects("crm_deal", since_changes=True), stage.runtime.mirror.rows(PORTAL))
    older = {number for kind, number in (*found.missing, *found.stale) if kind == "crm_deal" and number in deals}
    older -= waiting
    stage.tell(f"{len(deals) - len(waiting & set(deals))} of {len(deals)} deals are acknowledged an hour back")
    stage.expect(not older, f"the mirror is older than what was acknowledged: {sorted(older)}")


@fault(
    51,
    "the ledger's clock set back by an hour, then right again",
    needs=LIBRARY,
    package=PACKAGE,
    plan=OWN_BROKER,
    repeats=None,
)
def set_back(stage: Stage) -> None:
    """What would be older in the mirror waits, uncounted; nothing is served that was read in the future."""
    ledger_set_back(stage)
    wait_until(stage.empty, "all is settled when the clock is right", 150)
    stage.expect(not stage.counters.get("runs_failed"), "no run failed for it")
    found = compare(stage.control.objects(since_changes=True), stage.runtime.mirror.rows(PORTAL))
    stage.expect(not [*found.missing, *found.stale, *found.extra], f"mirror and portal differ: {found}"[:500])


@fault(
    51, "the ledger's clock an hour ahead", needs=LIBRARY, package=PACKAGE, plan=OWN_BROKER, repeats=None, overlap=True
)
def set_ahead(stage: Stage) -> None:
    """Leases and waits end early."""
    clock = _clock_of_ledger(stage)
    stage.journal.tell("slow", 0.5)
    stage.begin(20, 4)
    clock.write_text("+1h\n")
    stage.noted("the ledger's clock is an hour ahead")
    stage.change(15, "crm_contact")
    stage.journal.tell_nothing()
    stage.journal.tell("fail", times=4)
    stage.change(10, "crm_company")
