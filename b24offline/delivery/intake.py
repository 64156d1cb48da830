"""From the portal's rows to entries of a batch: parse once, route once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from b24offline.events import Event, MalformedRecord, event_from_record
from b24offline.ledger import Entry
from b24offline.rest import MALFORMED, NO_STAMP, OVERSIZED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from b24offline.events import Catalogue, Record, Routes

Unrouted = Literal["ack", "nack"]


def entries(
    portal: str,
    rows: Iterable[Record | MalformedRecord],
    catalogue: Catalogue,
    routes: Routes,
    unrouted: Unrouted,
) -> tuple[list[Entry], list[MalformedRecord]]:
    """Return entries for the ledger, and rows without a usable id: those can be neither acknowledged nor nacked.

    A malformed record with its ids becomes an entry that failed; an event without a route follows ``unrouted``.
    """
    made: list[Entry] = []
    unusable: list[MalformedRecord] = []
    for row in rows:
        if isinstance(row, MalformedRecord):
            if row.record_id is None or row.message_id is None:
                unusable.append(row)
            else:
                made.append(Entry(_placeholder(portal, row.record_id, row.message_id), skip="failed"))
            continue
        if row.name in (MALFORMED, OVERSIZED):
            made.append(Entry(_placeholder(portal, row.record_id, row.message_id, row.name), skip="failed"))
            continue
        event = event_from_record(portal, row, catalogue)
        pipelines = routes.pipelines_for(event.name)
        if pipelines:
            made.append(Entry(event, pipelines))
        else:
            made.append(Entry(event, skip="succeeded" if unrouted == "ack" else "failed"))
    return made, unusable


def _placeholder(portal: str, record_id: int, message_id: str, name: str = MALFORMED) -> Event:
    return Event(
        portal=portal,
        record_id=record_id,
        stamp=NO_STAMP,
        message_id=message_id,
        name=name,
        action="other",
        object=None,
        data=None,
        user_id=None,
        nacked=False,
    )
