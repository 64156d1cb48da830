"""Builders for tests of the core: events, rows, a ledger, and time that passes on demand."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from b24offline.config import Timers
from b24offline.events import Event, ObjectKey, Record, parse_record
from b24offline.ledger import BatchKind, Entry, Fencing, Ledger, Orphans, PollLease, RunRef, run_id
from b24offline.rest import ReserveOrder, Slot, retry_expired_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from redis import Redis

    from b24offline.events import Batch
    from b24offline.rest import OfflineQueue

PORTAL = "acme"
PREFIX = "coretest"
STAMP = "2026-04-03T08:44:10+02:00"
TIMERS = Timers()
PIPELINE = "deal_changed"
PID = "a" * 32

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


class FakeClient(ABC):
    """In the place of a portal's client: a slot for each call, as the real one has it."""

    @abstractmethod
    def send(self, method: str, params: dict[str, Any]) -> Any:
        """Answer a call."""

    @contextmanager
    def slot(self, method: str, *, kind: str = "run") -> Iterator[Slot]:
        slot = Slot(lambda params: self.send(method, dict(params)))
        yield slot
        slot.close()

    @retry_expired_token
    def call(self, method: str, params: Mapping[str, Any] | None = None, *, kind: str = "run") -> Any:
        with self.slot(method, kind=kind) as send:
            return send(params or {})


@dataclass
class Recorder(FakeClient):
    """Answers every call with the same result, and keeps what was sent."""

    result: Any = True
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def send(self, method: str, params: dict[str, Any]) -> Any:
        self.calls.append((method, params))
        return self.result


def reserve(queue: OfflineQueue, limit: int = 500) -> Batch | None:
    """Reserve free records by ascending id."""
    with queue.reserving() as send:
        return send(ReserveOrder(limit, {"ID": "ASC"}))


def reserve_nacked(queue: OfflineQueue, record_id: int) -> Batch | None:
    with queue.reserving() as send:
        return send(ReserveOrder.nacked_record(record_id))


def message_of(what: object) -> str:
    return hashlib.md5(str(what).encode(), usedforsecurity=False).hexdigest()


def event_of(record_id: int, object_id: str | None = None, **changes: Any) -> Event:
    """Return an event of a deal; by default of one that no other record points to."""
    deal = str(record_id) if object_id is None else object_id
    values: dict[str, Any] = {
        "portal": PORTAL,
        "record_id": record_id,
        "stamp": STAMP,
        "message_id": message_of(deal),
        "name": "ONCRMDEALUPDATE",
        "action": "update",
        "object": ObjectKey(PORTAL, "crm_deal", deal) if deal else None,
        "data": {"FIELDS": {"ID": deal}},
        "user_id": 1,
        "nacked": False,
    }
    return Event(**(values | changes))


def row_of(record_id: int, deal: str | None = None, **changes: object) -> dict[str, object]:
    """Return a row of `event.offline.list`."""
    number = str(record_id) if deal is None else deal
    return {
        "ID": str(record_id),
        "TIMESTAMP_X": STAMP,
        "EVENT_NAME": "ONCRMDEALUPDATE",
        "EVENT_DATA": {"FIELDS": {"ID": number}},
        "EVENT_ADDITIONAL": {"user_id": "1"},
        "MESSAGE_ID": message_of(number),
        "PROCESS_ID": "",
        "ERROR": "0",
        **changes,
    }


def record_of(record_id: int, deal: str | None = None, **changes: object) -> Record:
    return parse_record(row_of(record_id, deal, **changes))


def entry_of(record_id: int, object_id: str | None = None, *pipelines: str, **changes: Any) -> Entry:
    return Entry(event_of(record_id, object_id, **changes), pipelines or (PIPELINE,))


def run_of(record_id: int, pipeline: str = PIPELINE) -> str:
    return run_id(event_of(record_id), pipeline)


def ledger_on(
    redis: Redis, timers: Timers = TIMERS, *, portal: str = PORTAL, crash_budget: int = 3, numbered: bool = True
) -> Ledger:
    """Return a ledger; where it is `numbered`, each opening counts attempts from one, not from a random number."""
    ledger = Ledger(redis, PREFIX, portal, timers, crash_budget=crash_budget)
    if numbered:
        ledger.first_attempt = lambda: 0  # type: ignore[assignment]
    return ledger


def polled_before(redis: Redis, ledger: Ledger, epoch: int = 1) -> Ledger:
    """Return a ledger whose guard is not lost: a poll has given it a epoch."""
    redis.hset(f"{ledger.stem}:fencing", "epoch", epoch)
    return ledger


def guard_on(redis: Redis, ledger: Ledger, timers: Timers = TIMERS, *, gate: int = 20) -> Fencing:
    return Fencing(redis, ledger, timers, max_in_flight_batches=gate)


def adoptable(redis: Redis, ledger: Ledger, reserved: list[str]) -> dict[str, int]:
    """Return which orphans may be adopted after a look that showed these process ids, and when each was first seen."""
    lease = guard_on(redis, ledger).take_poll_lease(None, gate=False)
    assert isinstance(lease, PollLease)
    guard_on(redis, ledger).release(lease)
    orphans = Orphans(redis, ledger, TIMERS)
    assert orphans.note_page(0, None, reserved, unreadable=0)
    return {orphan.process_id: orphan.first_seen_ms for orphan in orphans.due()}


def opened(ledger: Ledger, process_id: str, *entries: Entry, **more: Any) -> tuple[RunRef, ...]:
    """Open a batch and hands out what may run."""
    assert ledger.open(process_id, entries, kind=more.pop("kind", BatchKind.POLLED), **more) is not None
    return ledger.start(process_id)


def ran(ledger: Ledger, handed: RunRef) -> RunRef:
    """Start the first step of a run."""
    assert ledger.begin_step(handed.run, handed.attempt, 0) is not None
    return handed


_PASSING = (
    *("poll_until", "intent", "unanswered", "whole_since", "ended", "sent", "begun:", "recovery_until", "settle_until"),
    *("first_seen", "opened", "seen", "in_doubt:", "in_doubt_all"),
)


def pass_time(redis: Redis, ledger: Ledger, seconds: float) -> None:
    """Move every moment the ledger knows into the past: the same as waiting, without waiting."""
    shift = round(seconds * 1000)
    for key in redis.scan_iter(f"{ledger.stem}:*"):
        tail = key.removeprefix(ledger.stem + ":")
        kind = redis.type(key)
        if tail in ("due", "batches"):
            for member in redis.zrange(key, 0, -1):
                redis.zincrby(key, -shift, member)
        elif tail in ("orphans", "nacked"):
            for name in redis.hkeys(key):
                redis.hincrby(key, name, -shift)
        elif tail.startswith("wait:"):
            if (until := redis.get(key)) is not None:  # it may end between the two calls
                redis.set(key, int(until) - shift, keepttl=True, xx=True)
        elif kind == "hash" and tail != "stats" and not tail.endswith(":records"):
            for name in redis.hkeys(key):
                if name.startswith(_PASSING):
                    redis.hincrby(key, name, -shift)


def due_times(redis: Redis, ledger: Ledger) -> dict[str, float]:
    """Member of the due set -> seconds from now."""
    now = ledger.now_ms()
    rows = redis.zrange(f"{ledger.stem}:due", 0, -1, withscores=True)
    return {member: (score - now) / 1000 for member, score in rows}


def run_state(redis: Redis, ledger: Ledger, run: str) -> str | None:
    return redis.hget(f"{ledger.stem}:run:{run}", "state")
