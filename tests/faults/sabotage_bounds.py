"""Switches a bound of what a portal may send off, or the verification of links, in the workers of a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

from b24offline.events import Batch
from b24offline.ledger import Fencing
from b24offline.rest import Http, OfflineQueue, ReserveOrder, bodies, client, offline_queue
from tests.faults import sabotage_links
from tests.faults.sabotage_portal import Put, Switch

NO_BOUND: Final = 1 << 40


def _rows(put: Put) -> None:
    """All rows of an answer are taken for a batch, and all records of a process id are adopted as one."""
    honest = OfflineQueue._reserved

    def reserved(self: OfflineQueue, result: object, order: ReserveOrder) -> Batch | None:
        any_number: Any = SimpleNamespace(limit=NO_BOUND, nacked=order.nacked)
        return honest(self, result, any_number)

    put(OfflineQueue, "_reserved", reserved)
    put(offline_queue, "ADOPTED_AT_ONCE", NO_BOUND)


def _record_bytes(put: Put) -> None:
    put(OfflineQueue, "_capped", lambda self, raw: raw)


def _answer_bytes(put: Put) -> None:
    """The body is read to its end, and made into values, however many they are."""
    honest = Http.exchange

    def exchange(self: Http, *given: Any, **more: Any) -> Any:
        return honest(replace(self, max_response_bytes=NO_BOUND), *given, **more)

    put(Http, "exchange", exchange)
    put(client, "bounded_json", bodies.parsed_json)


def _quota(put: Put) -> None:
    honest = Fencing.__init__

    def made(self: Fencing, *given: Any, **more: Any) -> None:
        honest(self, *given, **{**more, "max_bytes": NO_BOUND})

    put(Fencing, "__init__", made)


GUARDS: Final[Mapping[str, Switch]] = {
    "cap on rows": _rows,
    "cap on bytes of a record": _record_bytes,
    "cap on bytes of an answer": _answer_bytes,
    "byte quota": _quota,
    "verification of each link": sabotage_links.without_verification,
}
"""Guard -> how it is switched off in this process."""
