"""Guards of chunks, and how each is switched off in a worker of row 40."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from b24offline.ledger import ChunkLedger
from b24offline.tasks import bulk

if TYPE_CHECKING:
    from tests.faults.sabotage_portal import Put, Switch


def _alone(put: Put) -> None:
    put(ChunkLedger, "crashed", lambda self, runs: frozenset())


def _answer(put: Put) -> None:
    put(bulk, "failures_in", lambda answer, deliveries: {})


GUARDS: Final[dict[str, Switch]] = {
    "events of dead chunks alone": _alone,
    "failures in an answer": _answer,
}
