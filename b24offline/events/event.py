"""Records as the portal sends them, and the events made of them. Pure: no clock, no network, no Celery.

A record is one row of the portal's offline queue. Its foreign spelling (`EVENT_NAME`, `false` for "nothing",
numbers as strings) ends here: `parse_record` either gives a typed `Record` or says why it cannot, and nothing
behind it looks at raw rows again. An `Event` is what pipelines see.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from b24offline.errors import B24OfflineError

if TYPE_CHECKING:
    from b24offline.events.catalogue import Catalogue

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""Any value a portal's answer can hold."""

Action: TypeAlias = Literal["add", "update", "delete", "other"]
"""What happened to the object, by the verb in the event's name; saving and moving count as `other`."""
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)

_MESSAGE_ID: Final = re.compile(r"[0-9A-Za-z]{32}")
_DIGITS: Final = re.compile(r"[0-9]{1,19}")


class MalformedRecord(B24OfflineError):
    """A row of the queue that cannot become an event; it concerns this row only, never its batch.

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
        nacked: whether the row was nacked as failed (`ERROR`).
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


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """The identity of an object: portal, entity ("crm_deal") and id within the entity ("123", "1046:7")."""

    portal: str
    entity: str
    object_id: str

    def __str__(self) -> str:
        return f"{self.entity} {self.object_id}"


@dataclass(frozen=True, slots=True)
class Event:
    """One change in a portal, as a pipeline sees it.

    Attributes:
        portal: name of the portal.
        record_id: id of the record that carried the event; negative when there is none (see `local`).
        stamp: when the portal queued or repeated it, ISO 8601 with offset as sent.
        message_id: 32 characters, equal for every event of the same name and data.
        name: event name in upper case, `ONCRMDEALUPDATE`.
        action: "add", "update", "delete" or "other".
        object: what changed; None where the event has no object or an unreadable id.
        data: the payload, mostly ids only; never logged, so it has no place in the repr.
        user_id: who caused it; None when no user acted.
        nacked: whether it comes from a record that was nacked as failed before.
    """

    portal: str
    record_id: int
    stamp: str
    message_id: str
    name: str
    action: Action
    object: ObjectKey | None
    data: JSON = field(repr=False)
    user_id: int | None
    nacked: bool

    @property
    def delivery(self) -> str:
        """`<record id>@<stamp in epoch seconds>`: one delivery of one record of the portal."""
        return f"{self.record_id}@{stamp_seconds(self.stamp)}"

    @property
    def local(self) -> bool:
        """Whether it was injected here: no record of the portal stands behind it."""
        return self.record_id < 0

    @property
    def retrying(self) -> bool:
        """Whether its runs are held instead of failing: it was nacked before, or there is nothing to report."""
        return self.nacked or self.local

    def idempotency_key(self, pipeline: str) -> str:
        """Return the text that stays the same when this event runs again through the given pipeline.

        A repeat of the event in the portal has another stamp, hence another key. That of a local event names the
        object: it stays the same when the same missed state is injected twice.
        """
        if self.local and self.object is not None:
            name = f"{self.object.entity}:{self.object.object_id}"
            return f"{self.portal}:synthetic:{name}@{stamp_seconds(self.stamp)}:{pipeline}"
        return f"{self.portal}:{self.delivery}:{pipeline}"

    def to_json(self) -> str:
        """Return the event as one JSON text in ASCII; `from_json` gives it back."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        values["object"] = None if self.object is None else [self.object.entity, self.object.object_id]
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Event:
        """Return the event that `to_json` wrote.

        Raises:
            ValueError: the text is not such an event.
        """
        values = json.loads(text)
        try:
            if values["action"] not in ACTIONS:
                raise ValueError("not an event: unknown action")
            stamp_seconds(values["stamp"])
            key = values.pop("object")
            where = None if key is None else ObjectKey(values["portal"], str(key[0]), str(key[1]))
            return cls(object=where, **values)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"not an event: {type(error).__name__} in its JSON") from error


@dataclass(frozen=True, slots=True)
class Batch:
    """What one reservation holds: records that can run, and rows that cannot be read.

    Attributes:
        portal: name of the portal.
        process_id: the portal's name for the reservation, never empty.
        records: in the order of the answer.
        malformed: rows that are no records; they fail alone.
    """

    portal: str
    process_id: str
    records: tuple[Record, ...]
    malformed: tuple[MalformedRecord, ...] = ()


def stamp_seconds(stamp: str) -> int:
    """Epoch seconds of a `TIMESTAMP_X` text; raises ValueError where it is none or lacks its offset."""
    return int(_parse_stamp(stamp).timestamp())


def parse_record(raw: object, *, process_id: str = "", nacked: bool = False) -> Record:
    """Return one row of an answer as a typed record.

    Args:
        raw: the decoded row. Missing, false, null and empty payloads are all "no payload".
        process_id: the reservation, where the row does not say (`event.offline.get` rows do not).
        nacked: the mark, where the row does not say.

    Raises:
        MalformedRecord: id, timestamp, name or message id is missing or has the wrong shape.
    """
    if not isinstance(raw, Mapping):
        raise MalformedRecord(None, "the row is not an object")
    record_id = _positive_int(raw.get("ID"))
    message_id = raw.get("MESSAGE_ID")
    if not isinstance(message_id, str) or _MESSAGE_ID.fullmatch(message_id) is None:
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
    """Return the rows of one reservation as a batch; rows that cannot be read are kept apart, not raised."""
    records: list[Record] = []
    malformed: list[MalformedRecord] = []
    for row in rows:
        try:
            records.append(parse_record(row, process_id=process_id, nacked=nacked))
        except MalformedRecord as error:
            malformed.append(error)
    return Batch(portal, process_id, tuple(records), tuple(malformed))


def event_from_record(portal: str, record: Record, catalogue: Catalogue) -> Event:
    """Return the event a record carries; an unknown name or an odd id gives one without object, never an error."""
    kind = catalogue.lookup(record.name)
    key: ObjectKey | None = None
    if kind is not None:
        object_id = catalogue.object_id_from(record.data, kind)
        key = None if object_id is None else ObjectKey(portal, kind.entity, object_id)
    return Event(
        portal=portal,
        record_id=record.record_id,
        stamp=record.stamp,
        message_id=record.message_id,
        name=record.name,
        action="other" if kind is None else kind.action,
        object=key,
        data=record.data,
        user_id=_user_id(record.additional),
        nacked=record.nacked,
    )


def _parse_stamp(stamp: str) -> datetime:
    moment = datetime.fromisoformat(stamp.strip())
    if moment.tzinfo is None:
        raise ValueError("a stamp without offset")
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("a stamp outside the calendar") from error
    return moment


def _positive_int(value: object) -> int | None:
    text = str(value).strip() if isinstance(value, int | str) else ""
    number = int(text) if _DIGITS.fullmatch(text) else 0
    return number if number > 0 else None


def _payload(value: JSON) -> JSON:
    return None if value is False or value == [] else value


def _user_id(additional: JSON) -> int | None:
    return _positive_int(additional.get("user_id")) if isinstance(additional, dict) else None
