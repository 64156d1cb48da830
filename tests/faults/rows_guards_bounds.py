"""Row 40: bounds of what a portal may send, and the verification of whom we talk to, switched off one at a time.

What a portal floods is the ledger, which the checker judges by samples of how large it is; or the memory of workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from b24offline import contract
from tests.faults.gauges import Gauges
from tests.faults.row import UNEXPECTED
from tests.faults.rows_guards import without
from tests.faults.rows_hostile import WORKER_BYTES
from tests.faults.stage import Stage, wait_until
from tests.support.tls import ADDRESS, TlsServer, certificate
from tests.support.waiting import comes

LOOK_SECONDS: Final = 0.2
WATCHED_SECONDS: Final = 12.0
"""How long the ledger is watched after everything has arrived there, handlers being slower than that."""
HANDLER_SECONDS: Final = 5.0


def _weighed(stage: Stage, arrived: Callable[[], bool]) -> None:
    """Sample the ledger until what was sent has arrived in it, and has been there for a while."""
    end = time.monotonic() + WATCHED_SECONDS
    while time.monotonic() < end or not arrived():
        stage.weigh()
        time.sleep(LOOK_SECONDS)
        if time.monotonic() > end + WATCHED_SECONDS:
            return


def _raised(stage: Stage, count: int, characters: int) -> None:
    """Let events of deals be queued, each with so long a payload."""
    for deal in stage.change(count):
        data: dict[str, Any] = {"FIELDS": {"ID": deal}, "TEXT": "x" * characters}
        stage.control.raise_event("ONCRMDEALUPDATE", data)


@without("cap on rows", red=("flooded",), attempts=5, objects=900, drain_seconds=40)
def any_number_of_rows(stage: Stage) -> None:
    """A reserving call for 50 records brings 600."""
    stage.settle_some()
    stage.journal.tell("slow", HANDLER_SECONDS)
    with stage.unseen():
        for entity in ("crm_deal", "crm_contact", "crm_lead", "crm_company"):
            stage.change(150, entity)
        stage.control.quirks(rows_over_limit=700)
        stage.noted("a portal that hands out far more than it is asked for")
    _weighed(stage, lambda: not stage.control.state()["free"])
    stage.control.quirks(rows_over_limit=0)
    stage.journal.tell_nothing()


@without("cap on bytes of a record", red=("flooded",), attempts=5, drain_seconds=40)
def any_size_of_a_record(stage: Stage) -> None:
    """Eight records of 300 KB: an answer within its bounds."""
    stage.settle_some()
    stage.journal.tell("slow", HANDLER_SECONDS)
    with stage.unseen():
        _raised(stage, 8, 300_000)
        stage.noted("records of 300 KB")
    _weighed(stage, lambda: not stage.control.state()["free"])
    stage.journal.tell_nothing()


SMALL_QUOTA: Final = {"B24_PORTAL_LEDGER_BYTES": str(1 << 20), "B24_BATCH_SIZE": "20"}


@without("byte quota", red=("flooded",), attempts=5, objects=600, drain_seconds=60, variables=SMALL_QUOTA)
def any_number_of_bytes(stage: Stage) -> None:
    """12 MB of records, each within its bound, where the ledger may hold 1 MiB of a portal."""
    stage.settle_some()
    # One that runs no handlers: else nobody polls while all processes wait in slow ones.
    stage.workers.append(stage.new_worker("polls", queues=[contract.QUEUE_POLL]).start())
    stage.journal.tell("slow", HANDLER_SECONDS)
    with stage.unseen():
        _raised(stage, 200, 60_000)
        stage.noted("12 MB of records")
    _weighed(stage, lambda: not stage.control.state()["free"])
    stage.journal.tell_nothing()


@without("cap on bytes of an answer", red=(UNEXPECTED,), attempts=5, drain_seconds=40)
def any_size_of_an_answer(stage: Stage) -> None:
    """24 MiB of `{}` take 30 times as much as values."""
    stage.settle_some()
    gauges = Gauges(stage)
    gauges.sample()
    with stage.meets("event.offline.get", "braces", stage="after", size=24 << 20, times=3):
        stage.change(4)

    def grown() -> int:
        gauges.sample()
        return max(gauges.worker_bytes) - gauges.worker_bytes[0]

    comes(lambda: grown() > WORKER_BYTES, WATCHED_SECONDS)
    stage.expect(grown() < WORKER_BYTES, f"the workers grew by {grown() >> 20} MiB")


@without("verification of each link", red=(UNEXPECTED,), attempts=5, drain_seconds=40)
def told_to_a_stranger(stage: Stage) -> None:
    """Something with a certificate of its own answers at the portal's address; tests play the other links."""
    stage.settle_some()
    port = int(stage.emulator.rest.split("/")[2].rpartition(":")[2])
    server = stage.borrow(TlsServer(certificate(stage.folder / "stranger"), port))
    stage.move(stage.emulator.rest.replace(f"http://{ADDRESS}:{port}", f"https://{ADDRESS}:{server.port}"))
    stage.change(4)
    stage.noted("a stranger at the portal's address")
    comes(lambda: server.said, WATCHED_SECONDS)
    stage.expect(not server.said, f"a stranger was told {server.said} bytes")
    stage.move(stage.emulator.rest)
    wait_until(stage.empty, "all is settled", 60)
