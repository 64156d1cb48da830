"""The guarded client of a portal's offline queue: the only builder of `event.offline.*` calls.

Several documented calls of that queue destroy events without saying so: an empty id list clears a whole batch, an empty
process id clears every free record, `clear` defaults to deleting at read, `error` deletes newer records of the same
message and answers true. None of them can be built here. What may be cleared or reported is an order, a value that
cannot exist without its proof; every call carries the connector; list rows are filtered again and paged by `>ID`.

Source: the vendor's pages on `event.offline.get`, `.list`, `.clear`, `.error`. Raises `PortalError` of the client's
call and `UnsafeOrder` for an order that a guard refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from b24offline.errors import B24OfflineError, UnknownAnswer
from b24offline.event import Batch, MalformedRecord, Record, batch_from_rows, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from b24offline.rate_limit import Kind
    from b24offline.rest import Answer

_PROCESS_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,128}")
_MESSAGE_ID: Final = re.compile(r"[0-9A-Za-z]{32}")
_FIELDS: Final = ("ID", "TIMESTAMP_X", "EVENT_NAME", "MESSAGE_ID")
_FILTER_KEY: Final = re.compile(rf"(>=|<=|=|>|<)?({'|'.join(_FIELDS)})")
PAGE: Final = 50
"""Rows of one answer of `event.offline.list`."""
MALFORMED: Final = "MALFORMED"
"""The name given to a listed record whose own name or stamp cannot be read: it can still be reported."""
NO_STAMP: Final = "1970-01-01T00:00:00+00:00"
"""The stamp of a record whose own cannot be read."""


class UnsafeOrder(B24OfflineError):
    """A call that could destroy events was asked for and not built. A defect of the caller, never of the portal."""

    actor = "developer"


class Withdrawn(B24OfflineError):
    """The right to a call was lost while the call waited for its turn. Nothing was sent; somebody else has it now."""


Params: TypeAlias = Mapping[str, object] | Callable[[], Mapping[str, object]] | None
"""Parameters of a call, or what makes them right before it is sent."""


class Caller(Protocol):
    """What the queue needs of the portal's client."""

    def call(self, method: str, params: Params = None, *, kind: Kind = "run") -> Answer:
        """Calls one method, once. Parameters that are a function are made right before the call is sent."""
        ...


def _checked_process_id(process_id: object) -> str:
    """A process id of a portal; never that of a local batch, which has a colon."""
    if not isinstance(process_id, str) or not _PROCESS_ID.fullmatch(process_id):
        raise UnsafeOrder("a process id must be 1 to 128 letters, digits, '.', '_' or '-'; nothing was sent")
    return process_id


@dataclass(frozen=True, slots=True)
class ClearOrder:
    """Records of one batch that are done: at least one id, each a positive integer, under a whole process id."""

    process_id: str
    record_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        _checked_process_id(self.process_id)
        if not isinstance(self.record_ids, tuple) or not self.record_ids:
            raise UnsafeOrder("no record ids: the portal would clear the whole batch; nothing was sent")
        if any(type(i) is not int or i <= 0 for i in self.record_ids):
            raise UnsafeOrder("a record id must be an integer greater than 0; nothing was sent")


@dataclass(frozen=True, slots=True)
class ReportRules:
    """The ages (milliseconds) that an `error` call must respect."""

    minimum_age_ms: int
    look_valid_ms: int


@dataclass(frozen=True, slots=True)
class ReportOrder:
    """Failed records that may be marked. Built with its proof; all times in milliseconds of the ledger's clock.

    Attributes:
        process_id: the batch they were seen under.
        records: as just read with `reread`: unmarked and under this process id.
        newer: record id -> whether an unmarked record of its message with a greater id exists; known and False.
        first_seen_ms: when the batch was reserved or first seen.
        looked_ms: when the look at `records` and `newer` began.
        now_ms: now.
        lease_until_ms: end of the settle lease in hand.
        rules: ages to respect.
    """

    process_id: str
    records: tuple[Record, ...]
    newer: Mapping[int, bool]
    first_seen_ms: int
    looked_ms: int
    now_ms: int
    lease_until_ms: int
    rules: ReportRules

    def __post_init__(self) -> None:
        _checked_process_id(self.process_id)
        if not isinstance(self.records, tuple) or not self.records:
            raise UnsafeOrder("no records to report; nothing was sent")
        self._check_times()
        for record in self.records:
            if type(record) is not Record or not isinstance(self.newer, Mapping):
                raise UnsafeOrder("records and newer ones must be as they were read; nothing was sent")
            if record.process_id != self.process_id or record.marked:
                raise UnsafeOrder(f"record {record.record_id} is marked or not of this batch; nothing was sent")
            if not _MESSAGE_ID.fullmatch(record.message_id):
                raise UnsafeOrder(f"record {record.record_id} has no whole message id; nothing was sent")
            if self.newer.get(record.record_id) is not False:
                raise UnsafeOrder(f"record {record.record_id} has a newer one, or nobody looked; nothing was sent")
        if len(self.message_ids) != len(self.records):
            raise UnsafeOrder("two records of one message in one report; nothing was sent")

    def _check_times(self) -> None:
        times = (self.first_seen_ms, self.looked_ms, self.now_ms, self.lease_until_ms)
        if any(type(time) is not int for time in (*times, self.rules.minimum_age_ms, self.rules.look_valid_ms)):
            raise UnsafeOrder("times must be whole milliseconds; nothing was sent")
        if self.rules.minimum_age_ms <= 0:
            raise UnsafeOrder("the age from which a batch may be reported must be set; nothing was sent")
        if self.now_ms - self.first_seen_ms < self.rules.minimum_age_ms:
            raise UnsafeOrder("the batch is too young: an overlapping reserving call may live; nothing was sent")
        if not 0 <= self.now_ms - self.looked_ms <= self.rules.look_valid_ms:
            raise UnsafeOrder("the look at the portal is not fresh; nothing was sent")
        if self.lease_until_ms <= self.now_ms:
            raise UnsafeOrder("the settle lease has run out; nothing was sent")

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The message ids to mark, each once."""
        return tuple(dict.fromkeys(record.message_id for record in self.records))


def checked_filter(rules: Mapping[str, object]) -> dict[str, object]:
    """A filter for reserving: known fields and operations, scalar values. Raises `UnsafeOrder` otherwise."""
    for key, value in rules.items():
        if not _FILTER_KEY.fullmatch(key) or not isinstance(value, str | int) or isinstance(value, bool):
            raise UnsafeOrder(f"{key!r} is no filter of the offline queue: use {', '.join(_FIELDS)} with = > < >= <=")
    return dict(rules)


def checked_order(order: Mapping[str, str]) -> dict[str, str]:
    """An order of records: known fields, ASC or DESC. Raises `UnsafeOrder` otherwise."""
    for key, value in order.items():
        if key not in _FIELDS or value not in {"ASC", "DESC"}:
            raise UnsafeOrder(f"{key!r}: {value!r} is no order of the offline queue: use e.g. ID ASC")
    return dict(order)


class OfflineQueue:
    """The offline queue of one portal and connector."""

    def __init__(self, client: Caller, portal: str, connector: str) -> None:
        if not connector.strip():
            raise UnsafeOrder(f"portal {portal}: the connector is empty; every call must carry one")
        self._client = client
        self._portal = portal
        self._connector = connector

    def reserve(
        self,
        *,
        limit: int,
        order: Mapping[str, str],
        filter_by: Mapping[str, object] | None = None,
        sending: Callable[[], None],
    ) -> Batch | None:
        """Reserves up to ``limit`` free, unmarked records. None: nothing was free. Hold the poll lease.

        ``sending`` is called right before the call is sent, and raises `Withdrawn` if the lease is lost by then.

        Raises `UnknownAnswer` when the records may be reserved under a process id that the answer does not tell.
        """
        return self._get(limit=limit, order=order, filter_by=filter_by or {}, marked=False, sending=sending)

    def reserve_marked(self, record_id: int, *, sending: Callable[[], None]) -> Batch | None:
        """Reserves one free, marked record, so that it can be cleared once it ran. Hold the poll lease, as above."""
        if type(record_id) is not int or record_id <= 0:
            raise UnsafeOrder("a record id must be an integer greater than 0; nothing was sent")
        rules = {"=ID": record_id}
        return self._get(limit=1, order={"ID": "ASC"}, filter_by=rules, marked=True, sending=sending)

    def _get(
        self,
        *,
        limit: int,
        order: Mapping[str, str],
        filter_by: Mapping[str, object],
        marked: bool,
        sending: Callable[[], None],
    ) -> Batch | None:
        if type(limit) is not int or limit <= 0:
            raise UnsafeOrder("limit must be an integer greater than 0; nothing was sent")
        method = "event.offline.get"
        params: dict[str, object] = {
            "clear": 0,
            "error": int(marked),
            "limit": limit,
            "order": checked_order(order),
            "auth_connector": self._connector,
        }
        rules = checked_filter(filter_by)
        if rules:
            params["filter"] = rules

        def made() -> Mapping[str, object]:
            sending()
            return params

        result = self._client.call(method, made, kind="poll").result
        if not isinstance(result, dict):
            raise self._unknown(method, "its result is no object")
        rows = result.get("events", [])
        if rows in (None, False, []):
            return None
        process_id = result.get("process_id")
        if not isinstance(rows, list) or not isinstance(process_id, str) or not _PROCESS_ID.fullmatch(process_id):
            raise self._unknown(method, "it has events but no usable process_id")
        return batch_from_rows(self._portal, process_id, rows, marked=marked)

    def acknowledge(self, make: Callable[[], ClearOrder]) -> None:
        """Deletes the ordered records from the portal. Repeating it is harmless. Raises when the answer is not true.

        The order is made right before it is sent; making it raises `Withdrawn` if the settle lease is lost by then.
        """
        method = "event.offline.clear"

        def made() -> Mapping[str, object]:
            order = make()
            if type(order) is not ClearOrder:
                raise UnsafeOrder("only a ClearOrder may be sent; nothing was sent")
            ids = list(order.record_ids)
            return {"process_id": order.process_id, "id": ids, "auth_connector": self._connector}

        if self._client.call(method, made, kind="settle").result is not True:
            raise self._unknown(method, "it is not true")

    def report(self, make: Callable[[], ReportOrder]) -> None:
        """Marks the ordered records and frees them. Never repeat it blindly: look again after the quiet period.

        The order is made right before it is sent, so that its proof is of that moment and the quiet period begins with
        the call. Making it raises `Withdrawn` where there is no right to it any more.
        """
        method = "event.offline.error"

        def made() -> Mapping[str, object]:
            order = make()
            if type(order) is not ReportOrder:
                raise UnsafeOrder("only a ReportOrder may be sent; nothing was sent")
            messages = list(order.message_ids)
            return {"process_id": order.process_id, "message_id": messages, "auth_connector": self._connector}

        if self._client.call(method, made, kind="settle").result is not True:
            raise self._unknown(method, "it is not true")

    def reread(self, process_id: str) -> Batch:
        """What the portal still holds under a process id. Reads only, all pages."""
        wanted = _checked_process_id(process_id)
        records, malformed = [], []
        for row in self._rows({"=PROCESS_ID": wanted}, "settle"):
            if isinstance(row, MalformedRecord):
                malformed.append(row)
            elif row.process_id == wanted:
                records.append(row)
        return Batch(self._portal, wanted, tuple(records), tuple(malformed))

    def has_newer(self, message_id: str, than_record_id: int) -> bool:
        """Whether an unmarked record of this message with a greater id exists, free or reserved. Reads only."""
        if not _MESSAGE_ID.fullmatch(message_id) or than_record_id <= 0:
            raise UnsafeOrder("a whole message id and a record id are needed; nothing was sent")
        rules = {"=MESSAGE_ID": message_id, "=ERROR": 0}
        return any(
            isinstance(row, Record)
            and row.message_id == message_id
            and not row.marked
            and row.record_id > than_record_id
            for row in self._rows(rules, "settle", after=than_record_id)
        )

    def reserved(self) -> Iterator[Record | MalformedRecord]:
        """Every reserved record of this connector, whoever reserved it. Reads only."""
        for row in self._rows({">PROCESS_ID": ""}, "poll"):
            if isinstance(row, MalformedRecord) or _PROCESS_ID.fullmatch(row.process_id):
                yield row
            elif row.process_id:
                # No call can name its batch, so it stays reserved; left out here, nobody would see it.
                yield MalformedRecord(row.record_id, "its PROCESS_ID cannot be used", message_id=row.message_id)

    def marked(self) -> Iterator[Record]:
        """Every free marked record. Reads only."""
        for row in self._rows({"=ERROR": 1, "=PROCESS_ID": ""}, "poll"):
            if isinstance(row, Record) and row.marked and not row.process_id:
                yield row

    def free(self) -> Iterator[Record]:
        """Every free, unmarked record. Reads only."""
        for row in self._rows({"=ERROR": 0, "=PROCESS_ID": ""}, "poll"):
            if isinstance(row, Record) and not row.marked and not row.process_id:
                yield row

    def oldest_free(self) -> datetime | None:
        """The earliest stamp of the free, unmarked records; None when there are none. Reads only."""
        method = "event.offline.list"
        params = {
            "filter": {"=ERROR": 0, "=PROCESS_ID": ""},
            "order": {"TIMESTAMP_X": "ASC"},
            "auth_connector": self._connector,
        }
        rows = self._client.call(method, params, kind="poll").result
        if not isinstance(rows, list):
            raise self._unknown(method, "its result is no list")
        found = [row for row in map(_row, rows) if isinstance(row, Record) and row.stamp != NO_STAMP]
        return min((row.timestamp for row in found if not row.marked and not row.process_id), default=None)

    def _rows(self, rules: Mapping[str, object], kind: Kind, *, after: int = 0) -> Iterator[Record | MalformedRecord]:
        method = "event.offline.list"
        last = after
        while True:
            params = {
                "filter": {**rules, ">ID": last},
                "order": {"ID": "ASC"},
                "auth_connector": self._connector,
            }
            rows = self._client.call(method, params, kind=kind).result
            if not isinstance(rows, list):
                raise self._unknown(method, "its result is no list")
            page = [_row(raw) for raw in rows]
            yield from page
            ids = [row.record_id for row in page if row.record_id is not None]
            if len(rows) < PAGE:
                return
            if not ids or max(ids) <= last:
                raise self._unknown(method, "its pages do not advance by ID")
            last = max(ids)

    def _unknown(self, method: str, what: str) -> UnknownAnswer:
        return UnknownAnswer(self._portal, method, 200, "", f"the answer cannot be used: {what}")


def _row(raw: object) -> Record | MalformedRecord:
    try:
        return parse_record(raw)
    except MalformedRecord as error:
        if not isinstance(raw, Mapping) or error.record_id is None or error.message_id is None:
            return error
    # Its ids are whole, so it can be adopted and reported; taken for absent, it would stay reserved until it expires.
    try:
        return parse_record({**raw, "EVENT_NAME": MALFORMED, "TIMESTAMP_X": NO_STAMP})
    except MalformedRecord as error:
        return error
