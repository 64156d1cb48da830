"""Orders to a portal's offline queue: values that cannot exist without their proof. Pure.

Several documented calls of that queue destroy events without an error: an empty id list clears a whole batch, an empty
process id clears every free record, `error` deletes newer records of the same message and answers true. An order that
would do so cannot be built: it raises `UnsafeCall`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from b24offline.config import checked_filter, checked_order
from b24offline.errors import B24OfflineError
from b24offline.events import Record, is_message_id

_PROCESS_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,128}")


class UnsafeCall(B24OfflineError):
    """A call that could destroy events was refused. A defect of the caller, never of the portal."""

    actor = "developer"


def is_process_id(process_id: object) -> bool:
    """Return whether this is a complete process id of a portal; that of a synthetic batch has a colon and is not."""
    return isinstance(process_id, str) and _PROCESS_ID.fullmatch(process_id) is not None


def check_process_id(process_id: object) -> None:
    """Raise `UnsafeCall` unless this is a complete process id of a portal."""
    if not is_process_id(process_id):
        raise UnsafeCall("a process id must be 1 to 128 letters, digits, '.', '_' or '-'; nothing was sent")


@dataclass(frozen=True, slots=True)
class ReserveOrder:
    """Free records to reserve, or by `nacked_record` a single nacked one. Send it under the poll lease only."""

    limit: int
    order: Mapping[str, str]
    filter_by: Mapping[str, object] = field(default_factory=dict)
    nacked: bool = False

    @classmethod
    def nacked_record(cls, record_id: int) -> ReserveOrder:
        """Return the order for one free, nacked record, so that it can be cleared once it ran."""
        return cls(1, {"ID": "ASC"}, {"=ID": record_id}, nacked=True)

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit <= 0:
            raise UnsafeCall("limit must be an integer greater than 0; nothing was sent")
        try:
            # Copies, which cannot change after this check.
            object.__setattr__(self, "order", checked_order(self.order))
            object.__setattr__(self, "filter_by", checked_filter(self.filter_by))
        except ValueError as error:
            raise UnsafeCall(f"the filter or order of a reserving call {error}; nothing was sent") from None
        if type(self.nacked) is not bool:
            raise UnsafeCall("nacked must be True or False; nothing was sent")
        if self.nacked:
            _check_record_ids((self.filter_by.get("=ID"),))
            if self.limit != 1 or len(self.filter_by) != 1:
                raise UnsafeCall("nacked records are reserved one by one, by their id; nothing was sent")


@dataclass(frozen=True, slots=True)
class ClearOrder:
    """Finished records of one batch: at least one id, each a positive integer, under a complete process id."""

    process_id: str
    record_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        check_process_id(self.process_id)
        if not isinstance(self.record_ids, tuple) or not self.record_ids:
            raise UnsafeCall("no record ids: the portal would clear the whole batch; nothing was sent")
        _check_record_ids(self.record_ids)


@dataclass(frozen=True, slots=True)
class NackRules:
    """The ages (milliseconds) that an `error` call must respect."""

    minimum_age_ms: int
    look_valid_ms: int


@dataclass(frozen=True, slots=True)
class NackOrder:
    """Failed records that may be nacked, with the proof of it; all times in milliseconds of the ledger's clock.

    Attributes:
        process_id: the batch they were seen under.
        records: as just read by `reread`: not nacked and under this process id.
        newer: record id -> whether a record of its message with a greater id exists that is not nacked; must be False.
        first_seen_ms: when the batch was reserved or first seen.
        looked_ms: when reading `records` and `newer` began.
        now_ms: now.
        lease_until_ms: end of the settle lease.
        rules: ages to respect.
    """

    process_id: str
    records: tuple[Record, ...]
    newer: Mapping[int, bool]
    first_seen_ms: int
    looked_ms: int
    now_ms: int
    lease_until_ms: int
    rules: NackRules

    def __post_init__(self) -> None:
        check_process_id(self.process_id)
        if not isinstance(self.records, tuple) or not self.records:
            raise UnsafeCall("no records to nack; nothing was sent")
        self._check_times()
        for record in self.records:
            if type(record) is not Record or not isinstance(self.newer, Mapping):
                raise UnsafeCall("records and newer ones must be as they were read; nothing was sent")
            if record.process_id != self.process_id or record.nacked:
                raise UnsafeCall(f"record {record.record_id} is nacked or not of this batch; nothing was sent")
            if not is_message_id(record.message_id):
                raise UnsafeCall(f"record {record.record_id} has no complete message id; nothing was sent")
            if self.newer.get(record.record_id) is not False:
                raise UnsafeCall(f"record {record.record_id} has a newer one, or it is not known; nothing was sent")
        if len(self.message_ids) != len(self.records):
            raise UnsafeCall("two records of one message in one order; nothing was sent")

    def _check_times(self) -> None:
        times = (self.first_seen_ms, self.looked_ms, self.now_ms, self.lease_until_ms)
        if any(type(time) is not int for time in (*times, self.rules.minimum_age_ms, self.rules.look_valid_ms)):
            raise UnsafeCall("times must be whole milliseconds; nothing was sent")
        if self.rules.minimum_age_ms <= 0:
            raise UnsafeCall("the age from which a batch may be nacked must be set; nothing was sent")
        if self.now_ms - self.first_seen_ms < self.rules.minimum_age_ms:
            raise UnsafeCall("the batch is too young: an overlapping reserving call may live; nothing was sent")
        if not 0 <= self.now_ms - self.looked_ms <= self.rules.look_valid_ms:
            raise UnsafeCall("the look at the portal is not fresh; nothing was sent")
        if self.lease_until_ms <= self.now_ms:
            raise UnsafeCall("the settle lease has run out; nothing was sent")

    @property
    def message_ids(self) -> tuple[str, ...]:
        """The message ids to nack, each once."""
        return tuple(dict.fromkeys(record.message_id for record in self.records))


def _check_record_ids(record_ids: tuple[object, ...]) -> None:
    if any(type(record_id) is not int or record_id <= 0 for record_id in record_ids):
        raise UnsafeCall("a record id must be an integer greater than 0; nothing was sent")
