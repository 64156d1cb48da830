"""The guarded client of a portal's offline queue: the only builder of `event.offline.*` calls.

A call that could destroy events cannot be built here: reserving, clearing and nacking take an order (`offline_orders`)
that cannot exist without its proof, `clear=0` is always sent, every call carries the connector, and list rows are
filtered again and paged by `>ID`.

Such a call waits first and is sent afterwards: on entry, `with queue.clearing() as clear` waits for the rate limiter
and the token. Inside the block the caller checks its lease, builds the order and sends it, with no wait in between.
When the portal refuses the token as expired, the block ends with `ExpiredToken`; `retry_expired_token` runs it once
more, proof included.

Source: the vendor's pages on `event.offline.get`, `.list`, `.clear`, `.error`. The methods raise `PortalError` of the
client's call, and `UnsafeCall` for what a guard refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeGuard, TypeVar

from b24offline.errors import AnswerTooLarge, UnknownAnswer
from b24offline.events import Batch, MalformedRecord, Record, batch_from_rows, is_message_id, parse_record
from b24offline.rest.id_walk import PAGE, IdWalk
from b24offline.rest.offline_orders import (
    ClearOrder,
    NackOrder,
    ReserveOrder,
    UnsafeCall,
    check_process_id,
    is_process_id,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime

    from b24offline.rest.portal_client import PortalClient
    from b24offline.rest.rate_limit import Kind


_Ending = TypeVar("_Ending", ClearOrder, NackOrder)
_GET: Final = "event.offline.get"
_LIST: Final = "event.offline.list"
_CLEAR: Final = "event.offline.clear"
_ERROR: Final = "event.offline.error"
QUEUE_METHODS: Final = (_GET, _LIST, _CLEAR, _ERROR)
"""What a portal must offer."""
_FREE: Final = {"=ERROR": 0, "=PROCESS_ID": ""}
QUEUE_PAGE: Final = PAGE
"""Rows of one answer of `event.offline.list`."""
MOST_PAGES: Final = 2000
"""Pages of one list after which it is taken for one without end: 100,000 records."""
MOST_TOO_LARGE: Final = 20
"""Records of one list that alone are too large to be read, after which the list ends in an error."""
MALFORMED: Final = "MALFORMED"
"""Name of a listed record whose own name or stamp cannot be read: it can still be nacked."""
OVERSIZED: Final = "OVERSIZED"
"""Name of a record that has more bytes than a record may have: it is nacked, and keeps its data on the portal."""
TOO_LARGE: Final = "it is too large to be read"
"""Reason of a listed record that alone has more bytes than an answer may have."""
MAX_RECORD_BYTES: Final = 65_536
ADOPTED_AT_ONCE: Final = 500
"""Records that one adoption opens of a process id: as many as a batch may have. The others follow when these are
settled."""
ADOPTED_BYTES: Final = 1 << 23
"""Bytes of records that one list before an adoption keeps."""
LISTED_AT_ONCE: Final = 5_000
"""Records that it lists; those behind them are adopted when these are settled."""
_KEPT: Final = ("ID", "TIMESTAMP_X", "MESSAGE_ID", "PROCESS_ID", "ERROR")
NO_STAMP: Final = "1970-01-01T00:00:00+00:00"
"""Stamp of a record whose own cannot be read."""


@dataclass(frozen=True, slots=True)
class ReservedAs:
    """Process id -> records that are reserved under it; ``whole``: whether all process ids were looked for."""

    records: dict[str, list[Record]]
    whole: bool


@dataclass(frozen=True, slots=True)
class ReservedPage:
    """One page of the reserved records. ``last``: the id behind which the next page begins, None with the last one."""

    after: int
    last: int | None
    rows: tuple[Record | MalformedRecord, ...]


class OfflineQueue:
    """The offline queue of one portal and connector."""

    def __init__(
        self, client: PortalClient, portal: str, connector: str, *, max_record_bytes: int = MAX_RECORD_BYTES
    ) -> None:
        if not connector.strip():
            raise UnsafeCall(f"portal {portal}: the connector is empty; every call must carry one")
        self._client = client
        self._portal = portal
        self._connector = connector
        self._max_record_bytes = max_record_bytes

    @contextmanager
    def reserving(self) -> Iterator[Callable[[ReserveOrder], Batch | None]]:
        """Wait for a turn, then yield the function that reserves records; it returns None when none was free.

        Renew the poll lease inside the block, just before the call. The function raises `UnknownAnswer` when records
        may be reserved under a process id that the reply does not tell.
        """
        with self._client.slot(_GET, kind="poll") as send:

            def reserve(order: ReserveOrder) -> Batch | None:
                _check_type(order, ReserveOrder)
                params: dict[str, object] = {
                    "clear": 0,
                    "error": int(order.nacked),
                    "limit": order.limit,
                    "order": order.order,
                    "auth_connector": self._connector,
                }
                if order.filter_by:
                    params["filter"] = order.filter_by
                return self._reserved(send(params), order)

            yield reserve

    def _reserved(self, result: object, order: ReserveOrder) -> Batch | None:
        if not isinstance(result, dict):
            raise self._unknown(_GET, "its result is no object")
        rows = result.get("events", [])
        if rows in (None, False, []):
            return None
        process_id = result.get("process_id")
        if not isinstance(rows, list) or not isinstance(process_id, str) or not is_process_id(process_id):
            raise self._unknown(_GET, "it has events but no usable process_id")
        asked = [self._capped(raw) for raw in rows[: order.limit]]
        batch = batch_from_rows(self._portal, process_id, asked, nacked=order.nacked)
        return replace(batch, surplus=max(0, len(rows) - order.limit))

    def clearing(self) -> AbstractContextManager[Callable[[ClearOrder], None]]:
        """Wait for a turn, then yield the function that deletes the ordered records. Repeating it is harmless.

        Check the settle lease inside the block. The function raises when the reply is not true.
        """
        return self._ending(_CLEAR, ClearOrder, lambda order: {"id": list(order.record_ids)})

    def nacking(self) -> AbstractContextManager[Callable[[NackOrder], None]]:
        """Wait for a turn, then yield the function that nacks the ordered records, which frees them.

        Open the in-doubt window inside the block, so that it begins with the call. Never repeat a nack blindly: look
        again after the in-doubt window. The function raises when the reply is not true.
        """
        return self._ending(_ERROR, NackOrder, lambda order: {"message_id": list(order.message_ids)})

    @contextmanager
    def _ending(
        self, method: str, kind: type[_Ending], what: Callable[[_Ending], dict[str, object]]
    ) -> Iterator[Callable[[_Ending], None]]:
        with self._client.slot(method, kind="settle") as send:

            def end(order: _Ending) -> None:
                _check_type(order, kind)
                params = {"process_id": order.process_id, **what(order), "auth_connector": self._connector}
                if send(params) is not True:
                    raise self._unknown(method, "it is not true")

            yield end

    def reread(self, process_id: str, record_ids: Collection[int] = ()) -> Batch:
        """Return what the portal still holds under a process id. Reads only, all pages.

        With ``record_ids`` only what lies between them: a portal may have reserved far more than was asked for.
        """
        check_process_id(process_id)
        records, malformed = [], []
        upto = {"<=ID": max(record_ids)} if record_ids else {}
        after = min(record_ids) - 1 if record_ids else 0
        for row in self._rows({"=PROCESS_ID": process_id, **upto}, "settle", after=after):
            if isinstance(row, MalformedRecord):
                malformed.append(row)
            elif row.process_id == process_id:
                records.append(row)
        return Batch(self._portal, process_id, tuple(records), tuple(malformed))

    def newer(self, records: Sequence[Record]) -> dict[int, bool]:
        """Return for 1 to 50 records whether a record of the message with a greater id exists that is not nacked.

        Free and reserved ones count. Reads only. A record that the reply does not contain itself is left out of the
        result: a list without it proves nothing about newer ones.
        """
        if not 1 <= len(records) <= QUEUE_PAGE or not all(
            type(record) is Record and is_message_id(record.message_id) and record.record_id > 0 for record in records
        ):
            raise UnsafeCall("1 to 50 records with complete ids are needed; nothing was sent")
        rules = {"@MESSAGE_ID": sorted({record.message_id for record in records}), "=ERROR": 0}
        before = min(record.record_id for record in records) - 1
        found = list(self._rows(rules, "settle", after=before))
        if any(isinstance(row, MalformedRecord) and row.reason == TOO_LARGE for row in found):
            return {}  # it may be the newer one of any of them
        rows = [row for row in found if isinstance(row, Record) and not row.nacked]
        shown = {(row.message_id, row.record_id) for row in rows}
        greatest: dict[str, int] = {}
        for row in rows:
            greatest[row.message_id] = max(row.record_id, greatest.get(row.message_id, 0))
        return {
            record.record_id: greatest[record.message_id] > record.record_id
            for record in records
            if (record.message_id, record.record_id) in shown
        }

    def reserved(self) -> Iterator[Record | MalformedRecord]:
        """Yield every reserved record of this connector, whoever reserved it. Reads only."""
        for page in self.reserved_pages(kind="poll"):
            yield from page.rows

    def reserved_pages(self, after: int = 0, *, kind: Kind = "settle") -> Iterator[ReservedPage]:
        """Yield the reserved records behind an id page by page, so that a look that is cut off can go on there."""
        for rows, last in self._pages({">PROCESS_ID": ""}, kind, after=after):
            reserved = [_usable(row) for row in rows if isinstance(row, MalformedRecord) or row.process_id]
            yield ReservedPage(after, last, tuple(reserved))
            after = after if last is None else last

    def reserved_as(self, process_ids: Sequence[str]) -> ReservedAs:
        """Return what the portal still lists under 1 to 50 process ids, as much as is adopted at once. Reads only."""
        if not 1 <= len(process_ids) <= QUEUE_PAGE:
            raise UnsafeCall("1 to 50 process ids are needed; nothing was sent")
        for process_id in process_ids:
            check_process_id(process_id)
        found: dict[str, list[Record]] = {}
        kept_bytes = 0
        for listed, row in enumerate(self._rows({"@PROCESS_ID": list(process_ids)}, "settle")):
            if listed >= LISTED_AT_ONCE:
                return ReservedAs(found, whole=False)
            if isinstance(row, Record) and row.process_id in process_ids:
                rows = found.setdefault(row.process_id, [])
                if len(rows) < ADOPTED_AT_ONCE and kept_bytes < ADOPTED_BYTES:
                    rows.append(row)
                    kept_bytes += len(repr(row.data))
        return ReservedAs(found, whole=True)

    def nacked(self) -> Iterator[Record]:
        """Yield every free nacked record. Reads only."""
        rows = self._rows({"=ERROR": 1, "=PROCESS_ID": ""}, "poll")
        return (row for row in rows if isinstance(row, Record) and row.nacked and not row.process_id)

    def free(self) -> Iterator[Record]:
        """Yield every free record that is not nacked. Reads only."""
        return (row for row in self._rows(_FREE, "poll") if _is_free(row))

    def oldest_free(self) -> datetime | None:
        """Return the earliest stamp of the free records that are not nacked, None without any. Reads only."""
        rows = self._page(_FREE, {"TIMESTAMP_X": "ASC"}, "poll")
        return min((row.timestamp for row in rows if _is_free(row) and row.stamp != NO_STAMP), default=None)

    def _rows(self, rules: Mapping[str, object], kind: Kind, *, after: int = 0) -> Iterator[Record | MalformedRecord]:
        for page, _ in self._pages(rules, kind, after=after):
            yield from page

    def _pages(
        self, rules: Mapping[str, object], kind: Kind, *, after: int
    ) -> Iterator[tuple[list[Record | MalformedRecord], int | None]]:
        """Yield pages, each with the id behind which the next one begins; None with the last page."""
        walk, too_large = IdWalk(after), 0
        for _ in range(MOST_PAGES):
            try:
                page = self._page({**rules, **walk.rules}, {"ID": "ASC"}, kind)
            except AnswerTooLarge:
                if (alone := walk.halve()) is None:
                    continue
                yield [MalformedRecord(alone, TOO_LARGE)], walk.last
                too_large += 1
                if too_large < MOST_TOO_LARGE:
                    continue
                raise
            try:
                more = walk.advance([row.record_id for row in page if row.record_id is not None], len(page))
            except ValueError as error:
                yield page, walk.last
                raise self._unknown(_LIST, str(error)) from None
            yield page, walk.last if more else None
            if not more:
                return
        raise self._unknown(_LIST, f"its pages do not end, {MOST_PAGES} were read")

    def _page(
        self, rules: Mapping[str, object], order: Mapping[str, str], kind: Kind
    ) -> list[Record | MalformedRecord]:
        params = {"filter": rules, "order": order, "auth_connector": self._connector}
        rows = self._client.call(_LIST, params, kind=kind)
        if not isinstance(rows, list):
            raise self._unknown(_LIST, "its result is no list")
        return [_row(self._capped(raw)) for raw in rows]

    def _capped(self, raw: object) -> object:
        """Return a row, one that is larger than a record may be without what makes it so, and without its name."""
        if not isinstance(raw, Mapping) or len(json.dumps(raw)) <= self._max_record_bytes:
            return raw
        return {name: raw[name] for name in _KEPT if name in raw} | {"EVENT_NAME": OVERSIZED}

    def _unknown(self, method: str, what: str) -> UnknownAnswer:
        return UnknownAnswer(self._portal, method, 200, "", f"the answer cannot be used: {what}")


def _is_free(row: Record | MalformedRecord) -> TypeGuard[Record]:
    return isinstance(row, Record) and not row.nacked and not row.process_id


def _usable(row: Record | MalformedRecord) -> Record | MalformedRecord:
    if isinstance(row, MalformedRecord) or is_process_id(row.process_id):
        return row
    # No call can name its batch, so it stays reserved; left out, it would be invisible.
    return MalformedRecord(row.record_id, "its PROCESS_ID cannot be used", message_id=row.message_id)


def _check_type(order: object, kind: type) -> None:
    if type(order) is not kind:
        raise UnsafeCall(f"only a {kind.__name__} may be sent; nothing was sent")


def _row(raw: object) -> Record | MalformedRecord:
    try:
        return parse_record(raw)
    except MalformedRecord as error:
        if not isinstance(raw, Mapping) or error.record_id is None or error.message_id is None:
            return error
    # Its ids are complete, so it can be adopted and nacked; taken for absent, it would stay reserved until it expires.
    try:
        return parse_record({**raw, "EVENT_NAME": MALFORMED, "TIMESTAMP_X": NO_STAMP})
    except MalformedRecord as error:
        return error
