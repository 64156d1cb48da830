"""The failed events of a portal, from the ledger alone: nacked, retrying and dead-lettered ones with their ages.

Reads only, in many small steps; what changes meanwhile may be seen before or after the change. Calls no portal.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from b24offline import keys
from b24offline.events import Event
from b24offline.ledger.batches import BatchKind
from b24offline.ledger.nacked_records import known_failures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from b24offline.ledger.ledger import Ledger

Place = Literal["nacked", "retrying", "dead-lettered"]
PLACES: Final[tuple[Place, ...]] = ("nacked", "retrying", "dead-lettered")
_ENDED: Final = frozenset({"", "succeeded", "superseded"})
"""States of a run that nothing is left to do for."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One event of the error lane. No customer data.

    Attributes:
        portal: name of the portal.
        place: "nacked" (free on the portal, seen there), "retrying" (reserved, it runs again) or "dead-lettered".
        run: the run, "" for a nacked record.
        record_id: its record; negative for an object that was run without one.
        event: its name; "" for a nacked one of which nothing is known yet.
        object: what it points to, or "".
        pipeline: whose run it is, or "".
        state: of the run: "ready", "running", "waiting", "dead_lettered", or "".
        failures: counted errors.
        crashes: deaths of its process.
        reason: of the last failure.
        age_seconds: since it was first seen there, or since an operator's redrive.
        next_seconds: until the sweep looks at it, negative when it is late; None when the ledger has no time.
    """

    portal: str
    place: Place
    run: str
    record_id: int
    event: str
    object: str
    pipeline: str
    state: str
    failures: int
    crashes: int
    reason: str
    age_seconds: float
    next_seconds: float | None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """How much of a portal's work has not ended.

    Attributes:
        reserved: records that were reserved and are not acknowledged; without dead-lettered ones.
        runs: their runs that have not ended.
        nacked: records that are nacked on the portal.
        dead_lettered: runs that wait for a person.
    """

    reserved: int
    runs: int
    nacked: int
    dead_lettered: int


def unfinished(redis: Redis, ledger: Ledger) -> Unfinished:
    """Count what waits, for a person to read. Raise RedisError."""
    records = [
        json.loads(text)
        for process_id in ledger.working_batches()
        for text in redis.hvals(keys.records(ledger.stem, process_id))
    ]
    runs = [run for record in records for run in filter(None, record["runs"].split(","))]
    going = sum(ledger.run_fields(run, "state")[0] not in _ENDED for run in runs)
    places = Counter(event.place for event in error_lane(redis, ledger))
    return Unfinished(len(records), going, places["nacked"], places["dead-lettered"])


def error_lane(redis: Redis, ledger: Ledger) -> Iterator[Waiting]:
    """Yield what waits in the error lane of one portal."""
    now = ledger.now_ms()
    first_seen = {int(record): int(first) for record, first in redis.hgetall(keys.nacked(ledger.stem)).items()}
    others = [event for process_id in ledger.open_batches() for event in _of_batch(redis, ledger, process_id, now)]
    # One that was reserved meanwhile is retrying, whatever the last look at the portal saw.
    reserved = {event.record_id for event in others}
    failures = known_failures(redis, ledger)
    for record, first in sorted(first_seen.items()):
        if record not in reserved:
            yield _nacked(ledger, record, failures.get(record, {}), first, now)
    yield from others


def _nacked(ledger: Ledger, record: int, failure: dict[str, str], first_ms: int, now_ms: int) -> Waiting:
    return Waiting(
        portal=ledger.portal,
        place="nacked",
        run="",
        record_id=record,
        event=failure.get("event", ""),
        object=failure.get("object", ""),
        pipeline=failure.get("pipeline", ""),
        state="",
        failures=0,
        crashes=0,
        reason=failure.get("reason", ""),
        age_seconds=(now_ms - first_ms) / 1000 if first_ms else 0.0,
        next_seconds=max(0.0, (first_ms - now_ms) / 1000 + ledger.first_redrive_seconds),
    )


def _of_batch(redis: Redis, ledger: Ledger, process_id: str, now_ms: int) -> Iterator[Waiting]:
    kind = ledger.kind(process_id)
    if kind not in {BatchKind.RETRYING, BatchKind.SYNTHETIC, BatchKind.DEAD_LETTERED}:
        return
    for text in redis.hvals(keys.records(ledger.stem, process_id)):
        record: dict[str, Any] = json.loads(text)
        event = Event.from_json(record["event"])
        for run in filter(None, record["runs"].split(",")):
            fields = ledger.run_fields(run, "state", "failures", "crashes", "reason", "seen")
            state, failures, crashes, reason, seen = fields
            if state in _ENDED:
                continue
            if kind is BatchKind.SYNTHETIC and state != "dead_lettered" and not int(failures or 0) + int(crashes or 0):
                continue  # it has not failed yet
            due = redis.zscore(keys.due(ledger.stem), f"run:{run}")
            yield Waiting(
                portal=ledger.portal,
                place="dead-lettered" if state == "dead_lettered" else "retrying",
                run=run,
                record_id=event.record_id,
                event=event.name,
                object=str(event.object) if event.object else "",
                pipeline=run.partition("/")[2],
                state=state,
                failures=int(failures or 0),
                crashes=int(crashes or 0),
                reason=reason,
                age_seconds=(now_ms - int(seen or now_ms)) / 1000,
                next_seconds=None if due is None else (due - now_ms) / 1000,
            )
