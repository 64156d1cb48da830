"""Switches off the guards of the queue protocol that need a certain course of the portal's calls to be missed.

Where two rules cover for each other, both are off: `docs/model.md` says which, and that neither is missed alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from b24offline.delivery import Settler, retry_policy, settler
from b24offline.events import Batch, Record
from b24offline.ledger import PortalGuard, Settling
from b24offline.rest import ClearOrder, OfflineQueue, ReportOrder, offline_orders


def _report_age() -> None:
    honest = Settler.__init__

    def made(self: Settler, *given: Any, **more: Any) -> None:
        honest(self, *given, **more)
        self._rules = replace(self._rules, minimum_age_ms=1)

    Settler.__init__ = made  # type: ignore[method-assign]


def _process_id() -> None:
    """With it a settler that loses the process id: an empty one of the portal gets no further than the ledger."""
    offline_orders._PROCESS_ID = re.compile(".*")  # type: ignore[misc]
    ReportOrder.__post_init__ = lambda self: None  # type: ignore[method-assign]

    def without_name(kind: Any) -> Callable[..., Any]:
        return lambda *given, **told: replace(kind(*given, **told), process_id="")

    settler.ClearOrder = without_name(ClearOrder)  # type: ignore[attr-defined]
    settler.ReportOrder = without_name(ReportOrder)  # type: ignore[attr-defined]


def _marked_reported() -> None:
    """With it the rule that the run of a held record never fails for good: else nothing asks for the report."""
    reread, decide = OfflineQueue.reread, retry_policy.decide

    def blind(self: OfflineQueue, process_id: str) -> Batch:
        batch = reread(self, process_id)
        return replace(batch, records=tuple(replace(record, marked=False) for record in batch.records))

    def given_up(error: BaseException, **told: Any) -> Any:
        return decide(error, **{**told, "held": False})

    OfflineQueue.reread = blind  # type: ignore[method-assign]
    retry_policy.decide = given_up


def _greater_id() -> None:
    def any_other(self: OfflineQueue, records: Sequence[Record]) -> dict[int, bool]:
        rows = list(self._rows({"@MESSAGE_ID": [record.message_id for record in records], "=ERROR": 0}, "settle"))
        return {
            record.record_id: any(
                row.message_id == record.message_id and row.record_id != record.record_id for row in rows
            )
            for record in records
        }

    OfflineQueue.newer = any_other  # type: ignore[method-assign]


def _quiet_redrive() -> None:
    """With it the wait of a marked record, which is longer."""

    def at_once(self: PortalGuard, marked: Iterable[Record], wait_seconds: float) -> Iterator[Record]:
        return iter(sorted(marked, key=lambda record: record.record_id))

    PortalGuard.due_marked = at_once  # type: ignore[method-assign]


def _quiet_adoption() -> None:
    """With it the two sightings of an orphan, which are as far apart."""
    note_quiet = PortalGuard.note_quiet

    def not_noted(self: PortalGuard, messages: Collection[str], settling: Settling | None) -> float:
        return note_quiet(self, messages if settling else (), settling)

    def at_once(self: PortalGuard, reserved: Collection[str]) -> dict[str, int]:
        now = self._ledger.now_ms()
        return dict.fromkeys(set(reserved) - set(self._ledger.open_batches()), now)

    PortalGuard.note_quiet = not_noted  # type: ignore[method-assign]
    PortalGuard.sight = at_once  # type: ignore[method-assign]


def _recovery_pause() -> None:
    """With it the age of reports, which covers for every overlap of reserving calls."""
    honest = PortalGuard.__init__

    def made(self: PortalGuard, *given: Any, **more: Any) -> None:
        honest(self, *given, **more)
        self._timers = replace(self._timers, recovery_seconds=0.0)

    PortalGuard.__init__ = made  # type: ignore[method-assign]
    _report_age()


GUARDS: Final[dict[str, Callable[[], None]]] = {
    "75 s rule": _report_age,
    "process-id guard": _process_id,
    "no report of marked records": _marked_reported,
    "supersede by greater id only": _greater_id,
    "quiet period of redrive": _quiet_redrive,
    "quiet after ledger loss": _quiet_adoption,
    "recovery pause": _recovery_pause,
}
"""Guard -> how it is switched off in this process."""
