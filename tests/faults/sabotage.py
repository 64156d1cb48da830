"""Switches one guard of the product off, in the workers of a row that must turn red for it.

The checker is worth what it notices: each of these is a mistake that an integration could make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from b24offline.delivery import SettlePlan, SettleView, settlement, settler
from b24offline.events import Event, Record, parse_record
from b24offline.ledger import Ledger, SettleLease, fencing
from b24offline.rest import RestClient, offline_orders
from tests.faults import sabotage_bounds, sabotage_bulk, sabotage_portal, sabotage_push, sabotage_queue
from tests.faults.sabotage_portal import Put, Switch, rewritten

VARIABLE: Final = "B24OFFLINE_TEST_WITHOUT"
"""The guard that is off, in the environment of the workers."""


class _TrueThoughEmpty(tuple[int, ...]):
    """What a check for emptiness does not catch."""

    def __bool__(self) -> bool:
        return True


def _altered(put: Put, method: str, **params: Any) -> None:
    """Send a method's calls with other parameters; None leaves one out."""
    honest = RestClient.call

    def call(self: RestClient, name: str, given: Mapping[str, object] | None, *, token: str) -> Any:
        changed = {**(given or {}), **params} if name == method else given or {}
        return honest(self, name, {key: value for key, value in changed.items() if value is not None}, token=token)

    put(RestClient, "call", call)


def _planned(put: Put, change: Callable[[SettleView, SettlePlan], SettlePlan]) -> None:
    def plan(view: SettleView) -> SettlePlan:
        return change(view, settlement.plan_settlement(view))

    put(settler, "plan_settlement", plan)


def _explicit_keep(put: Put) -> None:
    _altered(put, "event.offline.get", clear=1)


def _connector(put: Put) -> None:
    _altered(put, "event.offline.clear", auth_connector=None)


def _empty_list(put: Put) -> None:
    put(offline_orders.ClearOrder, "__post_init__", lambda self: None)
    _planned(put, lambda view, plan: replace(plan, clear=_TrueThoughEmpty(plan.clear)))


def _close_only_finished(put: Put) -> None:
    def everything(view: SettleView, plan: SettlePlan) -> SettlePlan:
        unfinished = tuple(record for record, outcome in view.outcomes.items() if outcome == "unfinished")
        return replace(plan, clear=tuple(sorted({*plan.clear, *unfinished})))

    _planned(put, everything)


def _look(put: Put) -> None:
    def looked(self: settler.Settler, view: SettleView, settling: SettleLease) -> SettleView:
        live = {number: _remembered(event, settling.process_id) for number, event in view.events.items()}
        return replace(view, live=live, newer=dict.fromkeys(live, False), now_ms=self._ledger.now_ms())

    put(settler.Settler, "_looked", looked)


def _remembered(event: Event, process_id: str) -> Record:
    row = {
        "ID": str(event.record_id),
        "TIMESTAMP_X": event.stamp,
        "EVENT_NAME": event.name,
        "EVENT_DATA": event.data,
        "MESSAGE_ID": event.message_id,
    }
    return parse_record(row, process_id=process_id, nacked=event.nacked)


def _object_queue(put: Put) -> None:
    honest = Ledger.object_queue

    def object_queue(self: Ledger, event: Event, pipeline: str) -> str:
        return f"{honest(self, event, pipeline)}:{event.record_id}"

    put(Ledger, "object_queue", object_queue)


def _attempt_token(put: Put) -> None:
    replaced = "if not late or given ~= late and (not first or given < first or given > current) then return nil end"
    rewritten(put, "begin_step", (replaced, ""), ("if position <= tonumber(begun) then return nil end", ""))


def _in_doubt(put: Put) -> None:
    put(fencing.Fencing, "in_doubt_until_ms", lambda self, messages: {})


GUARDS: Final[dict[str, Switch]] = {
    "explicit clear=0": _explicit_keep,
    "connector on every call": _connector,
    "empty-list guard": _empty_list,
    "close only when finished": _close_only_finished,
    "look before error": _look,
    "object queue": _object_queue,
    "attempt token": _attempt_token,
    "in-doubt window": _in_doubt,
    **sabotage_queue.GUARDS,
    **sabotage_portal.GUARDS,
    **sabotage_bounds.GUARDS,
    **sabotage_bulk.GUARDS,
    **sabotage_push.GUARDS,
}
"""Guard -> how it is switched off in this process."""
