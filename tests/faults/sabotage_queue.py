"""Switches off the guards of the queue protocol that need a certain course of the portal's calls to be missed.

Where two rules cover for each other, both are off: `docs/model.md` says which, and that neither is missed alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from b24offline.delivery import Settler, retry_policy, settler
from b24offline.events import Batch, Event, Record
from b24offline.ledger import Fencing
from b24offline.rest import ClearOrder, NackOrder, OfflineQueue, offline_orders
from b24offline.tasks import consumer
from tests.faults.sabotage_portal import Put, Switch, rewritten


def _report_age(put: Put) -> None:
    honest = Settler.__init__

    def made(self: Settler, *given: Any, **more: Any) -> None:
        honest(self, *given, **more)
        self._rules = replace(self._rules, minimum_age_ms=1)

    put(Settler, "__init__", made)


def _process_id(put: Put) -> None:
    """With it a settler that loses the process id: an empty one of the portal gets no further than the ledger."""
    put(offline_orders, "_PROCESS_ID", re.compile(".*"))
    put(NackOrder, "__post_init__", lambda self: None)

    def without_name(kind: Any) -> Callable[..., Any]:
        return lambda *given, **reply: replace(kind(*given, **reply), process_id="")

    put(settler, "ClearOrder", without_name(ClearOrder))
    put(settler, "NackOrder", without_name(NackOrder))


def _nacked_reported(put: Put) -> None:
    """With it two rules without which nothing asks for the report of a nacked record.

    The run of a retrying record never fails for good; and a list of newer records without the record itself, as a
    nacked one is not in it, proves nothing.
    """
    reread, newer, decide = OfflineQueue.reread, OfflineQueue.newer, retry_policy.decide

    def blind(self: OfflineQueue, *named: Any) -> Batch:
        batch = reread(self, *named)
        return replace(batch, records=tuple(replace(record, nacked=False) for record in batch.records))

    def proven(self: OfflineQueue, records: Sequence[Record]) -> dict[int, bool]:
        found = newer(self, records)
        return {record.record_id: found.get(record.record_id, False) for record in records}

    def given_up(error: BaseException, **reply: Any) -> Any:
        return decide(error, **{**reply, "retrying": False})

    put(OfflineQueue, "reread", blind)
    put(OfflineQueue, "newer", proven)
    put(retry_policy, "decide", given_up)


def _greater_id(put: Put) -> None:
    def any_other(self: OfflineQueue, records: Sequence[Record]) -> dict[int, bool]:
        rows = list(self._rows({"@MESSAGE_ID": [record.message_id for record in records], "=ERROR": 0}, "settle"))
        return {
            record.record_id: any(
                row.message_id == record.message_id and row.record_id != record.record_id for row in rows
            )
            for record in records
        }

    put(OfflineQueue, "newer", any_other)


def _in_doubt_redrive(put: Put) -> None:
    """With it the wait of a nacked record, which is longer."""

    def at_once(self: Fencing, nacked: Iterable[Record], wait_seconds: float) -> Iterator[Record]:
        return iter(sorted(nacked, key=lambda record: record.record_id))

    put(Fencing, "due_nacked", at_once)


def _in_doubt_adoption(put: Put) -> None:
    """What is adopted at once is so although an in-doubt window has not passed since the loss."""
    rewritten(put, "begin_poll", ("  whole_from_now()\n", ""))


def _recovery_pause(put: Put) -> None:
    """With it the nack age, which covers for every overlap of reserving calls."""
    honest = Fencing.__init__

    def made(self: Fencing, *given: Any, **more: Any) -> None:
        honest(self, *given, **more)
        self._timers = replace(self._timers, recovery_seconds=0.0)

    put(Fencing, "__init__", made)
    _report_age(put)


def _epoch_of_server(put: Put) -> None:
    for script in ("begin_poll", "renew_poll", "begin_settle", "open_in_doubt_window"):
        rewritten(put, script, ("  local run = string.match(", "  do return 'any' end\n  local run = string.match("))


def _refusal_age(put: Put) -> None:
    honest = retry_policy.decide

    def decide(*given: Any, **more: Any) -> Any:
        return honest(*given, **{**more, "age_seconds": 0.0})

    put(retry_policy, "decide", decide)


def _nacked_key(put: Put) -> None:
    honest = Event.idempotency_key
    put(Event, "idempotency_key", lambda self, pipeline: honest(replace(self, nacked=False), pipeline))


def _callbacks(put: Put) -> None:
    put(consumer, "checked_body", lambda headers, body, queues: None)


GUARDS: Final[dict[str, Switch]] = {
    "age of runs that the portal refuses": _refusal_age,
    "key of nacked records": _nacked_key,
    "callbacks stripped": _callbacks,
    "75 s rule": _report_age,
    "process-id guard": _process_id,
    "no report of nacked records": _nacked_reported,
    "supersede by greater id only": _greater_id,
    "in-doubt window of redrive": _in_doubt_redrive,
    "in-doubt window after ledger loss": _in_doubt_adoption,
    "recovery pause": _recovery_pause,
    "epoch bound to the server": _epoch_of_server,
}
"""Guard -> how it is switched off in this process."""
