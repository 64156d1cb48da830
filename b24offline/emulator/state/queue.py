"""The offline queue of one application on one portal: a state machine without I/O, the moment as an argument.

A record is free (process id empty) or reserved, and unmarked or marked. For one connector and message there
is at most one free record, and a repeat restamps it, marked or not. The exception: records that an overlapping
call or `steal` put under one process id can all be marked and free; a repeat then restamps one of them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.state.record import FREE, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from b24offline.emulator.state.journal import Journal
    from b24offline.emulator.state.selection import Selection

RESERVATION_SECONDS: Final = 30 * 24 * 3600
"""A reserved record is deleted this long after it was reserved."""


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Numbers of records: free unmarked, reserved (marked or not), marked, and the free of these.

    `processes` counts the reserved by process id, `connectors` all by connector.
    """

    records: int
    free: int
    reserved: int
    nacked: int
    free_nacked: int
    processes: dict[str, int]
    connectors: dict[str, int]
    oldest_reserved_seconds: float


def message_id_of(event_name: str, data: object) -> str:
    """Return 32 characters that depend on the event's name and data only."""
    text = event_name + json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


class OfflineQueue:
    """All records of one application, split by connector. Every transition is written to `history`."""

    def __init__(self, history: Journal, new_process_id: Callable[[], str]) -> None:
        self._history = history
        self._new_process_id = new_process_id
        self._last_id = 0
        self._records: dict[int, Record] = {}
        self._by_message: dict[tuple[str, str], set[int]] = {}
        self._by_process: dict[tuple[str, str], dict[int, Record]] = {}
        self._reserved: dict[int, Record] = {}
        self._nacked: set[int] = set()

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> Iterable[Record]:
        """Return all records, in no particular order."""
        return self._records.values()

    def counts(self, now: float) -> QueueCounts:
        """Return how many records there are of each kind."""
        processes: dict[str, int] = {}
        connectors: dict[str, int] = {}
        for (connector, process_id), group in self._by_process.items():
            connectors[connector] = connectors.get(connector, 0) + len(group)
            if process_id != FREE:
                processes[process_id] = processes.get(process_id, 0) + len(group)
        free_nacked = sum(self._records[record_id].process_id == FREE for record_id in self._nacked)
        first = next(iter(self._reserved.values()), None)
        return QueueCounts(
            records=len(self._records),
            free=len(self._records) - len(self._reserved) - free_nacked,
            reserved=len(self._reserved),
            nacked=len(self._nacked),
            free_nacked=free_nacked,
            processes=processes,
            connectors=connectors,
            oldest_reserved_seconds=0.0 if first is None else now - first.reserved_at,
        )

    def batch(self, connector: str, process_id: str) -> list[Record]:
        """Return the records of a connector under a process id; the free ones under the empty one."""
        return list(self._by_process.get((connector, process_id), {}).values())

    def enqueue(
        self,
        now: float,
        connector: str,
        event_name: str,
        data: Any,
        *,
        additional: Any = False,
        subject: tuple[str, str] = ("", ""),
    ) -> Record:
        """Queue an event: restamp its free record, marked or not, or add a free unmarked one."""
        message_id = message_id_of(event_name, data)
        for record_id in self._by_message.get((connector, message_id), ()):
            record = self._records[record_id]
            if record.process_id == FREE:
                record.stamp = int(now)
                self._note(now, "restamped", record)
                return record
        self._last_id += 1
        record = Record(self._last_id, connector, event_name, data, additional, message_id, int(now), subject)
        self._records[record.id] = record
        self._by_message.setdefault((connector, message_id), set()).add(record.id)
        self._by_process.setdefault((connector, FREE), {})[record.id] = record
        self._note(now, "queued", record)
        return record

    def reserve(
        self, now: float, connector: str, selection: Selection, *, nacked: bool, overlap_seconds: float = 0.0
    ) -> tuple[str, list[Record]]:
        """Give free records a fresh process id; this hides them from every later reserving or taking call.

        With `overlap_seconds` the call behaves like one that ran beside earlier ones: records that were
        reserved less than this long ago are handed out again and move to the new process id.
        """
        pool = self.batch(connector, FREE)
        if overlap_seconds > 0:
            messages = {record.message_id for record in pool}
            pool += [
                record
                for record in self._reserved.values()
                if record.connector == connector
                and now - record.reserved_at < overlap_seconds
                and record.message_id not in messages
            ]
        found = selection.pick([record for record in pool if record.nacked == nacked])
        process_id = self._new_process_id()
        self.move(now, found, process_id)
        return process_id, found

    def move(self, now: float, records: Iterable[Record], process_id: str) -> None:
        """Put records under a process id, as a reserving call does."""
        for record in records:
            before = record.process_id
            self._put(record, process_id)
            record.reserved_at = now
            self._reserved.pop(record.id, None)
            self._reserved[record.id] = record
            self._note(now, "reserved" if before == FREE else "moved", record, before=before)

    def take(self, now: float, connector: str, selection: Selection, *, nacked: bool) -> list[Record]:
        """Read free records and delete them at once (`clear=1`)."""
        pool = [record for record in self.batch(connector, FREE) if record.nacked == nacked]
        found = selection.pick(pool)
        self._delete(now, found, "cleared", by="get")
        return found

    def reread(self, connector: str, process_id: str, selection: Selection, *, nacked: bool | None) -> list[Record]:
        """Return what is left of a batch; all of it, or only its marked or unmarked records."""
        batch = self.batch(connector, process_id)
        return selection.pick([record for record in batch if nacked is None or record.nacked == nacked])

    def clear_batch(self, now: float, connector: str, process_id: str, *, by: str = "clear") -> int:
        """Delete everything under a process id, marked or not; under the empty one all free records."""
        return self._delete(now, self.batch(connector, process_id), "cleared", by=by)

    def clear_free_everywhere(self, now: float) -> int:
        """Delete the free records of all connectors."""
        free = [record for record in self._records.values() if record.process_id == FREE]
        return self._delete(now, free, "cleared", by="clear")

    def clear_ids(self, now: float, connector: str, process_id: str, ids: Collection[int]) -> int:
        """Delete the named records that are under this process id."""
        found = [record for record in self.batch(connector, process_id) if record.id in ids]
        return self._delete(now, found, "cleared", by="clear")

    def clear_messages(self, now: float, connector: str, process_id: str, messages: Collection[str]) -> int:
        """Delete the records with these message ids that are under this process id."""
        found = [record for record in self.batch(connector, process_id) if record.message_id in messages]
        return self._delete(now, found, "cleared", by="clear")

    def report(self, now: float, connector: str, process_id: str, messages: Iterable[str]) -> tuple[int, int]:
        """Mark and release the batch's records of these messages, delete the other unmarked ones.

        Marked records stay as they are, reserved ones included. Return the numbers of marked and deleted
        records.
        """
        nacked = deleted = 0
        for message_id in dict.fromkeys(messages):
            ids = sorted(self._by_message.get((connector, message_id), ()))
            unmarked = [self._records[record_id] for record_id in ids if not self._records[record_id].nacked]
            others = [record for record in unmarked if record.process_id != process_id]
            deleted += self._delete(now, others, "deleted_by_error", by=process_id)
            for record in unmarked:
                if record.process_id == process_id:
                    self.mark(now, record)
                    nacked += 1
        return nacked, deleted

    def mark(self, now: float, record: Record) -> None:
        """Mark a record and release it."""
        before = record.process_id
        record.nacked = True
        self._nacked.add(record.id)
        self._put(record, FREE)
        self._reserved.pop(record.id, None)
        self._note(now, "nacked", record, before=before)

    def select(self, connector: str, selection: Selection) -> list[Record]:
        """Return all records of a connector that match, free and reserved, as `event.offline.list` sees them."""
        return selection.pick([record for record in self._records.values() if record.connector == connector])

    def expire(self, now: float) -> int:
        """Delete what was reserved 30 days ago."""
        due = []
        for record in self._reserved.values():
            if now - record.reserved_at < RESERVATION_SECONDS:
                break
            due.append(record)
        return self._delete(now, due, "expired")

    def drop_all(self, now: float) -> int:
        """Delete every record, as uninstalling the application does."""
        return self._delete(now, list(self._records.values()), "dropped")

    def _put(self, record: Record, process_id: str) -> None:
        self._leave(record)
        record.process_id = process_id
        self._by_process.setdefault((record.connector, process_id), {})[record.id] = record

    def _leave(self, record: Record) -> None:
        key = (record.connector, record.process_id)
        group = self._by_process[key]
        del group[record.id]
        if not group:
            del self._by_process[key]

    def _delete(self, now: float, records: Iterable[Record], kind: str, **more: Any) -> int:
        number = 0
        for record in records:
            self._leave(record)
            del self._records[record.id]
            self._reserved.pop(record.id, None)
            self._nacked.discard(record.id)
            same = self._by_message[record.connector, record.message_id]
            same.discard(record.id)
            if not same:
                del self._by_message[record.connector, record.message_id]
            self._note(now, kind, record, **more)
            number += 1
        return number

    def _note(self, now: float, kind: str, record: Record, **more: Any) -> None:
        self._history.add(
            now,
            kind=kind,
            id=str(record.id),
            message_id=record.message_id,
            event=record.event_name,
            entity=record.subject[0],
            object=record.subject[1],
            connector=record.connector,
            process_id=record.process_id,
            nacked=record.nacked,
            stamp=record.stamp,
            **more,
        )
