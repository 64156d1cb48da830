"""A portal's queue in this process: the emulator's pure queue behind the protocol that the guarded client needs."""

from __future__ import annotations

import itertools
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from b24offline.emulator import Journal, Selection, Sequence, iso, parse_filter, parse_order
from b24offline.emulator import OfflineQueue as PortalQueue
from b24offline.emulator import Record as Row
from b24offline.errors import AnswerTooLarge, PortalError, UnknownAnswer
from tests.support.core_events import FakeClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from b24offline.rest import Slot

CONNECTOR = "b24offline"
EPOCH = 1_775_000_000


@dataclass
class PortalDesk(FakeClient):
    """Executes `event.offline.*` on the emulator's queue, refuses what could destroy, and makes trouble when told.

    `lose` holds methods whose next answer is lost after they were executed, `refuse` errors for the next call of a
    method; a reserving call brings `surplus` rows more than asked for, and no answer may have more than `answer_bytes`;
    `waiting` is called with each method's name while the call waits for its turn, `before` when it is sent.
    """

    name: str = "acme"
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    lose: list[str] = field(default_factory=list)
    refuse: dict[str, Exception] = field(default_factory=dict)
    waiting: Callable[[str], None] = field(default=lambda method: None)
    before: Callable[[str], None] = field(default=lambda method: None)
    surplus: int = 0
    answer_bytes: int = 1 << 23
    distort: Callable[[dict[str, Any]], dict[str, Any]] = field(default=lambda row: row)

    def __post_init__(self) -> None:
        numbers = itertools.count(1)
        self.history = Journal(Sequence())
        self.queue = PortalQueue(self.history, lambda: f"{next(numbers):032x}")
        self.now = EPOCH

    def change(self, deal: str, name: str = "ONCRMDEALUPDATE", data: Any = None) -> int:
        """Queue a change of a deal; answers the record's id."""
        self.now += 1
        data = {"FIELDS": {"ID": deal}} if data is None else data
        return self.queue.enqueue(self.now, CONNECTOR, name, data, subject=("crm_deal", deal)).id

    def rows(self) -> dict[int, Row]:
        return {row.id: row for row in self.queue.records()}

    def kinds(self, kind: str) -> Iterator[str]:
        return (entry["id"] for entry in self.history.page(0, 100_000) if entry["kind"] == kind)

    def methods(self) -> list[str]:
        return [method.removeprefix("event.offline.") for method, _ in self.calls]

    @contextmanager
    def slot(self, method: str, *, kind: str = "run") -> Iterator[Slot]:
        self.waiting(method)
        with super().slot(method, kind=kind) as slot:
            yield slot

    def send(self, method: str, sent: dict[str, Any]) -> Any:
        self.before(method)
        self.calls.append((method, sent))
        assert sent["auth_connector"] == CONNECTOR
        refusal = self.refuse.pop(method, None)
        if refusal is not None:
            raise refusal
        self.now += 1
        answer = getattr(self, "_" + method.rpartition(".")[2])(sent)
        if len(json.dumps(answer)) > self.answer_bytes:
            raise AnswerTooLarge(self.name, method, None, "", f"the answer is longer than {self.answer_bytes} bytes")
        if method in self.lose:
            self.lose.remove(method)
            raise UnknownAnswer(self.name, method, None, "", "lost")
        return answer

    def _get(self, sent: dict[str, Any]) -> Any:
        assert sent["clear"] == 0
        selection = Selection(
            parse_filter(sent.get("filter"), for_list=False),
            parse_order(sent.get("order"), for_list=False, default="TIMESTAMP_X"),
            sent["limit"] + self.surplus,
        )
        process_id, rows = self.queue.reserve(self.now, CONNECTOR, selection, nacked=sent["error"] == 1)
        return {"process_id": process_id if rows else None, "events": [self._row(row) for row in rows]}

    def _list(self, sent: dict[str, Any]) -> Any:
        selection = Selection(
            parse_filter(sent.get("filter"), for_list=True),
            parse_order(sent.get("order"), for_list=True, default="ID"),
        )
        rows = self.queue.select(CONNECTOR, selection)[:50]
        return [{**self._row(row), "PROCESS_ID": row.process_id, "ERROR": "1" if row.nacked else "0"} for row in rows]

    def _clear(self, sent: dict[str, Any]) -> bool:
        assert sent["id"]
        self.queue.clear_ids(self.now, CONNECTOR, sent["process_id"], frozenset(sent["id"]))
        return True

    def _error(self, sent: dict[str, Any]) -> bool:
        self.queue.report(self.now, CONNECTOR, sent["process_id"], sent["message_id"])
        return True

    def _row(self, row: Row) -> dict[str, Any]:
        return self.distort(
            {
                "ID": str(row.id),
                "TIMESTAMP_X": iso(row.stamp),
                "EVENT_NAME": row.event_name,
                "EVENT_DATA": row.data,
                "EVENT_ADDITIONAL": row.additional,
                "MESSAGE_ID": row.message_id,
            }
        )


def refusal(kind: type[PortalError], method: str) -> PortalError:
    return kind("acme", method, 503, "", "")
