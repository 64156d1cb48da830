"""Records as the portal sends them, typed. Pure.

A record is one row of the portal's offline queue. Its foreign spelling (`EVENT_NAME`, `false` for "nothing",
numbers as strings) ends here: `parse_record` returns a typed `Record` or raises, and no other code reads raw rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias, TypeGuard

from b24offline.errors import B24OfflineError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""Any value in a portal's reply."""

_MESSAGE_ID: Final = re.compile(r"[0-9A-Za-z]{32}")
_DIGITS: Final = re.compile(r"[0-9]{1,19}")


class MalformedRecord(B24OfflineError):
    """A row of the queue that cannot become an event. It does not affect the rest of its batch.

    Attributes:
        record_id: the row's `ID` when that much could be read, else None.
        message_id: the row's `MESSAGE_ID` when it is well formed, else None.
        reason: what is wrong, without any of the row's content.
    """

    actor = "developer"

    def __init__(self, record_id: int | None, reason: str, *, message_id: str | None = None) -> None:
        which = "without a readable ID" if record_id is None else str(record_id)
        super().__init__(
            f"Record {which} of the offline queue is malformed: {reason}. Look at it with "
            "event.offline.list; it cannot run, and stays in the queue."
        )
        self.record_id = record_id
        self.message_id = message_id
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the offline queue. Source: answers of `event.offline.get` and `event.offline.list`.

    Attributes:
        record_id: `ID`, greater than 0; the only safe handle on one row.
        timestamp: `TIMESTAMP_X` as an aware datetime, one second resolution.
        stamp: `TIMESTAMP_X` exactly as sent.
        name: `EVENT_NAME` in upper case.
        data: `EVENT_DATA`; None where the portal sent false, null, an empty list or nothing.
        additional: `EVENT_ADDITIONAL`, the same way.
        message_id: `MESSAGE_ID`, 32 characters; equal for every record of one event name and data.
        process_id: the reservation the row belongs to, "" while free.
        nacked: whether the record was nacked (`ERROR`).
    """

    record_id: int
    timestamp: datetime
    stamp: str
    name: str
    data: JSON = field(repr=False)
    additional: JSON = field(repr=False)
    message_id: str
    process_id: str = ""
    nacked: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """The content of one reservation: records that can run, and rows that cannot be read.

    Attributes:
        portal: name of the portal.
        process_id: the portal's name for the reservation, never empty.
        records: in the order of the reply.
        malformed: rows that are no records.
        surplus: how many rows the reply had beyond those that were asked for; they stay reserved, and are no records.
    """

    portal: str
    process_id: str
    records: tuple[Record, ...]
    malformed: tuple[MalformedRecord, ...] = ()
    surplus: int = 0


def is_message_id(message_id: object) -> TypeGuard[str]:
    """Return whether this is a complete message id."""
    return isinstance(message_id, str) and _MESSAGE_ID.fullmatch(message_id) is not None


def stamp_seconds(stamp: str) -> int:
    """Return the epoch seconds of a `TIMESTAMP_X`; raise ValueError when it is malformed or has no offset."""
    return int(_parse_stamp(stamp).timestamp())


def parse_record(raw: object, *, process_id: str = "", nacked: bool = False) -> Record:
    """Return one row of a reply as a typed record.

    Args:
        raw: the decoded row. Missing, false, null and empty payloads are all "no payload".
        process_id: the reservation, when the row has no PROCESS_ID (rows of `event.offline.get` have none).
        nacked: whether it was nacked, when the row has no ERROR.

    Raises:
        MalformedRecord: id, timestamp, name or message id is missing or has the wrong shape.
    """
    if not isinstance(raw, Mapping):
        raise MalformedRecord(None, "the row is not an object")
    record_id = positive_int(raw.get("ID"))
    message_id = raw.get("MESSAGE_ID")
    if not is_message_id(message_id):
        message_id = None

    def malformed(reason: str) -> MalformedRecord:
        return MalformedRecord(record_id, reason, message_id=message_id)

    if record_id is None:
        raise malformed("its ID is not a number greater than 0")
    if message_id is None:
        raise malformed("its MESSAGE_ID is not 32 letters and digits")
    name = raw.get("EVENT_NAME")
    if not isinstance(name, str) or not name.strip():
        raise malformed("its EVENT_NAME is missing")
    stamp = raw.get("TIMESTAMP_X")
    if not isinstance(stamp, str):
        raise malformed("its TIMESTAMP_X is missing")
    try:
        timestamp = _parse_stamp(stamp)
    except ValueError:
        raise malformed("its TIMESTAMP_X is not a time with an offset") from None
    reservation = raw.get("PROCESS_ID", process_id)
    if not isinstance(reservation, str) and reservation is not None and reservation is not False:
        raise malformed("its PROCESS_ID is not text")
    return Record(
        record_id=record_id,
        timestamp=timestamp,
        stamp=stamp,
        name=name.strip().upper(),
        data=_payload(raw.get("EVENT_DATA")),
        additional=_payload(raw.get("EVENT_ADDITIONAL")),
        message_id=message_id,
        process_id=reservation or "",
        nacked=str(raw["ERROR"]).strip().lower() in {"1", "true", "y"} if "ERROR" in raw else nacked,
    )


def batch_from_rows(portal: str, process_id: str, rows: Iterable[object], *, nacked: bool = False) -> Batch:
    """Return the rows of one reservation as a batch; malformed rows are collected, not raised."""
    records: list[Record] = []
    malformed: list[MalformedRecord] = []
    for row in rows:
        try:
            records.append(parse_record(row, process_id=process_id, nacked=nacked))
        except MalformedRecord as error:
            malformed.append(error)
    return Batch(portal, process_id, tuple(records), tuple(malformed))


def _parse_stamp(stamp: str) -> datetime:
    moment = datetime.fromisoformat(stamp.strip())
    if moment.tzinfo is None:
        raise ValueError("a stamp without offset")
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a stamp outside the calendar") from error
    return moment


def positive_int(value: object) -> int | None:
    """Return a number greater than 0, sent as such or as digits; None for anything else."""
    text = str(value).strip() if isinstance(value, int | str) else ""
    number = int(text) if _DIGITS.fullmatch(text) else 0
    return number if number > 0 else None


def _payload(value: JSON) -> JSON:
    return None if value is False or value == [] else value
