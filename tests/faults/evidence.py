"""What a fault run leaves behind, as the checker reads it: the portal's logs, and the journal of the handlers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Name = tuple[str, str]
"""Entity and object id."""
GONE = "gone"
"""What a run saw of an object that does not exist any more."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry of the portal's history of records; ``wall`` in epoch seconds."""

    seq: int
    wall: float
    kind: str
    record: int
    message: str
    event: str
    name: Name
    stamp: int = 0
    process_id: str = ""
    before: str = ""
    nacked: bool = False
    by: str = ""

    @property
    def delivery(self) -> str:
        """The record and its stamp, as an idempotency key names them."""
        return f"{self.record}@{self.stamp}"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an object in the portal."""

    seq: int
    wall: float
    name: Name
    action: str


@dataclass(frozen=True, slots=True)
class Span:
    """One execution of one step, as its handler noted it. ``end`` None: it was not seen to end.

    Attributes:
        span: different for every execution.
        name: the event's object; two empty texts when it has none.
        delivery: the record and its stamp in epoch seconds.
        pipeline: the pipeline.
        run: different for every time that the run was handed out; its steps share it.
        last: whether the run is complete with this step.
        start, effect, end: epoch seconds; ``effect`` is when the handler did what must not be done twice.
        ok: whether it ended well.
        saw: a fingerprint of the object as the handler saw it, or `GONE`.
    """

    span: str
    name: Name
    delivery: str
    pipeline: str
    run: str
    last: bool
    start: float
    effect: float | None = None
    end: float | None = None
    ok: bool = False
    saw: str = ""

    @property
    def last_sign(self) -> float:
        """Until when it was alive for certain."""
        return max(self.start, self.effect or 0.0, self.end or 0.0)


@dataclass(frozen=True, slots=True)
class Holding:
    """What the ledger held of a portal at one moment; ``wall`` in epoch seconds.

    Attributes:
        rows: records of its largest batch.
        record_bytes: length of the longest record.
        total_bytes: memory of all of the portal's keys.
    """

    wall: float
    rows: int
    record_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of each the ledger may hold of a portal, as in `Holding`."""

    rows: int
    record_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checker looks at.

    It never sees what our ledger says, except for what is known to be retrying or dead-lettered; only how large it is.

    Attributes:
        moments: the history of records, in order.
        changes: the changes of objects, in order.
        spans: the handlers' journal.
        pipelines: event name -> pipelines that must run for it; an event that is not in it needs none.
        known: ids of records that the deployment says is retrying or dead-lettered.
        objects: changed object -> fingerprint of what the portal shows now, or `GONE`.
        holdings: samples of what the ledger held, of a row that took any.
        bounds: how much it may hold.
    """

    moments: tuple[Moment, ...]
    changes: tuple[Change, ...]
    spans: tuple[Span, ...]
    pipelines: Mapping[str, tuple[str, ...]]
    known: frozenset[int] = frozenset()
    objects: Mapping[Name, str] = field(default_factory=dict)
    holdings: tuple[Holding, ...] = ()
    bounds: Bounds | None = None


def fingerprint(data: object) -> str:
    """Return a short text that differs when an object's content does; `GONE` for None."""
    if data is None:
        return GONE
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def moments(rows: Iterable[Mapping[str, Any]]) -> tuple[Moment, ...]:
    """Return the emulator's history as moments."""
    return tuple(
        Moment(
            seq=int(row["seq"]),
            wall=float(row["wall"]),
            kind=str(row["kind"]),
            record=int(row["id"]),
            message=str(row["message_id"]),
            event=str(row["event"]),
            name=(str(row["entity"]), str(row["object"])),
            stamp=int(row["stamp"]),
            process_id=str(row["process_id"]),
            before=str(row.get("before", "")),
            nacked=bool(row["nacked"]),
            by=str(row.get("by", "")),
        )
        for row in rows
    )


def changes(rows: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    """Return the emulator's changes."""
    return tuple(
        Change(int(row["seq"]), float(row["wall"]), (str(row["entity"]), str(row["id"])), str(row["action"]))
        for row in rows
    )


def objects(rows: Iterable[Mapping[str, Any]]) -> dict[Name, str]:
    """Return the emulator's objects, as a run that saw them now would have noted them."""
    return {(str(row["entity"]), str(row["id"])): GONE if row["deleted"] else fingerprint(row["data"]) for row in rows}


def spans(lines: Iterable[str], portal: str) -> tuple[Span, ...]:
    """Return the journal's lines of one portal, JSON each, put together by execution."""
    found: dict[str, Span] = {}
    for line in lines:
        row = json.loads(line)
        span, mark, wall = str(row["span"]), row["mark"], float(row["wall"])
        if mark == "start" and row["portal"] == portal:
            found[span] = Span(
                span=span,
                name=(str(row["entity"]), str(row["object"])),
                delivery=str(row["delivery"]),
                pipeline=str(row["pipeline"]),
                run=str(row["run"]),
                last=bool(row["last"]),
                start=wall,
            )
        elif span not in found:
            continue
        elif mark == "effect":
            found[span] = replace(found[span], effect=wall, saw=str(row["saw"]))
        else:
            found[span] = replace(found[span], end=wall, ok=mark == "end")
    return tuple(sorted(found.values(), key=lambda one: one.start))
