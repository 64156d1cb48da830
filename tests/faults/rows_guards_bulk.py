"""Row 40: guards of chunks."""

from __future__ import annotations

from tests.faults.row import UNEXPECTED
from tests.faults.rows_bulk import BULK, CHUNK, one_kills
from tests.faults.rows_guards import without
from tests.faults.stage import Stage


@without("events of dead chunks alone", "runs of a chunk that died share one again", red=(UNEXPECTED,), variables=BULK)
def poison_takes_others(stage: Stage) -> None:
    one_kills(stage)
    stage.journal.tell_nothing()


@without("failures in an answer", "failures that a bulk step answers", red=("unfinished",), variables=BULK)
def answer_not_read(stage: Stage) -> None:
    stage.settle_some()
    with stage.unseen():
        for deal in stage.change(CHUNK)[:3]:
            stage.journal.tell("permanent", name=f"crm_deal {deal}", times=1)
    stage.noted("an answer names three events of a chunk")
