"""Guards of the protocol, each with a way to switch it off in this process, for a machine that must notice.

What random histories do not find in reasonable time is not here: in-doubt windows, the nack age, the settle
lease, attempt numbers that come back, runs of other pipelines that start again with a failed one, and pairs of rules
that cover for each other. Such a loss takes 12 to 25 steps, each the right one; the model (`tests/model`) finds
those of one pipeline, because it leaves nothing out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from b24offline.delivery import SettlePlan, SettleView, settlement, settler
from b24offline.events import Record
from b24offline.ledger import Orphans, ledger
from b24offline.rest import OfflineQueue, offline_orders
from tests.faults import sabotage
from tests.faults.sabotage_portal import rewritten
from tests.support.protocol_rules import ProtocolMachine
from tests.support.protocol_world import Network, Sent

if TYPE_CHECKING:
    import pytest

Off = Callable[["pytest.MonkeyPatch"], None]


def _sent(patch: pytest.MonkeyPatch, method: str, **params: Any) -> None:
    """The portal executes the method with other parameters; None leaves one out."""
    honest = Network.execute

    def execute(self: Network, sent: Sent, *, overlap: bool = False) -> Any:
        if sent.method == method:
            given = {key: value for key, value in {**sent.params, **params}.items() if value is not None}
            sent = replace(sent, params=given)
        return honest(self, sent, overlap=overlap)

    patch.setattr(Network, "execute", execute)


def _explicit_keep(patch: pytest.MonkeyPatch) -> None:
    _sent(patch, "get", clear=None)


def _connector(patch: pytest.MonkeyPatch) -> None:
    _sent(patch, "clear", auth_connector=None)


def _ids_given(patch: pytest.MonkeyPatch) -> None:
    _sent(patch, "clear", id=None)


def _nacked_once(patch: pytest.MonkeyPatch) -> None:
    """A retrying run fails like any other, and its record is nacked once more."""
    _retrying_never_fails(patch)
    honest_plan = settlement.plan_settlement

    def plan(view: SettleView) -> SettlePlan:
        live = view.live and {number: replace(record, nacked=False) for number, record in view.live.items()}
        return honest_plan(replace(view, live=live))

    honest_newer = OfflineQueue.newer

    def newer(self: OfflineQueue, records: Sequence[Record]) -> dict[int, bool]:
        found = honest_newer(self, records)
        return {record.record_id: found.get(record.record_id, False) for record in records}

    patch.setattr(OfflineQueue, "newer", newer)
    patch.setattr(settler, "plan_settlement", plan)
    patch.setattr(offline_orders.NackOrder, "__post_init__", lambda self: None)


def _retrying_never_fails(patch: pytest.MonkeyPatch) -> None:
    honest = ledger.Ledger.begin_step

    def begin_step(self: ledger.Ledger, run: str, attempt: int, position: int) -> ledger.StepLease | None:
        begun = honest(self, run, attempt, position)
        return begun and replace(begun, retrying=False)

    patch.setattr(ledger.Ledger, "begin_step", begin_step)


def _adoption(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Orphans, "due", lambda self: ())


def _error_lane(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ProtocolMachine, "redriven", lambda self: ())


def _own_run_when_retrying(patch: pytest.MonkeyPatch) -> None:
    rewritten(
        patch.setattr, "open_batch", ("if not record.nacked then return false end", "if true then return false end")
    )


def _due_times(patch: pytest.MonkeyPatch) -> None:
    """The sweep hands nothing out again."""
    honest = ledger.Ledger.take_overdue
    patch.setattr(ledger.Ledger, "take_overdue", lambda self, limit=200: replace(honest(self, limit), runs=()))


def _as_in_rows(guard: str) -> Off:
    return lambda patch: sabotage.GUARDS[guard](patch.setattr)


EVERY: Final = ()
REPORTS: Final = ("change_and_run", "settle", "go_on", "late_call", "time_passes")
"""Rules enough for failures, reports, and calls that come late or twice."""
OVERLAPS: Final = ("change_and_run", "run", "run_ends", "time_passes")

GUARDS: Final[dict[str, tuple[Off, tuple[str, ...]]]] = {
    "explicit clear=0": (_explicit_keep, EVERY),
    "connector with clear": (_connector, EVERY),
    "ids with clear": (_ids_given, EVERY),
    "only what is finished is cleared": (_as_in_rows("close only when finished"), EVERY),
    "look before error": (_as_in_rows("look before error"), EVERY),
    "attempt token": (_as_in_rows("attempt token"), OVERLAPS),
    "object queue": (_as_in_rows("object queue"), OVERLAPS),
    "no report of nacked records": (_nacked_once, EVERY),
    "retrying runs never fail": (_retrying_never_fails, EVERY),
    "only a greater id supersedes": (_as_in_rows("supersede by greater id only"), EVERY),
    "adoption": (_adoption, EVERY),
    "error lane": (_error_lane, EVERY),
    "own run when retrying": (_own_run_when_retrying, EVERY),
    "sweep of runs": (_due_times, EVERY),
}
"""Guard -> how it is switched off, and the rules whose histories show it."""
