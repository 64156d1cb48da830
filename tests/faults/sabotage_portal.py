"""Switches a guard of reservations, tokens or late messages off, in the workers of a row that must turn red for it.

The guards of acknowledging and reporting are in `tests.faults.sabotage`; both are looked up by the same variable.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from threading import Timer
from typing import Any, Final, cast

from b24offline.events import Batch, Record, RefreshWait
from b24offline.ledger import Ledger, Orphan, Orphans, StepLease, transitions
from b24offline.rest import (
    CallRules,
    ClearOrder,
    OfflineQueue,
    ReservedAs,
    ReservedPage,
    ReserveOrder,
    TokenSource,
    call_slots,
    oauth,
    portal_client,
    suspects,
)
from b24offline.store import Mirror, TokenPairs

LATE_SAVE_SECONDS: Final = 8.0
"""How long a new pair of tokens is used before it is stored, where nobody insists on the order."""
Put = Callable[[Any, str, Any], None]
"""Sets an attribute of a module or class of the product: `setattr` in a worker, that of a test undoes it."""
Switch = Callable[[Put], None]
PEEKED: Final = "peeked"
"""Begins the name of a batch whose record is not reserved."""


def rewritten(put: Put, script: str, *changes: tuple[str, str]) -> None:
    """Change the text of one script; a text that is not there would leave the guard on, and is an error."""
    honest = transitions._script_text

    def text(name: str) -> str:
        found = honest(name)
        for old, new in changes if name == script else ():
            if old not in found:
                raise ValueError(f"{script}.lua has no {old!r}: the guard cannot be switched off like this any more")
            found = found.replace(old, new)
        return found

    put(transitions, "_script_text", text)


def _two_sightings(put: Put) -> None:
    """What one list showed is adopted, and not listed again under the lease."""
    honest = OfflineQueue.reserved_pages
    listed: dict[str, dict[int, Record]] = {}

    def pages(self: OfflineQueue, *given: Any, **more: Any) -> Iterator[ReservedPage]:
        for page in honest(self, *given, **more):
            for row in page.rows:
                if isinstance(row, Record):
                    listed.setdefault(row.process_id, {})[row.record_id] = row
            yield page

    def due(self: Orphans) -> tuple[Orphan, ...]:
        return tuple(Orphan(str(name), self._ledger.now_ms(), True) for name in self._redis.hkeys(self._orphans))

    put(OfflineQueue, "reserved_pages", pages)

    def reserved_as(self: OfflineQueue, names: Collection[str]) -> ReservedAs:
        return ReservedAs({one: list(listed.get(one, {}).values()) for one in names}, whole=True)

    put(OfflineQueue, "reserved_as", reserved_as)
    put(Orphans, "due", due)


def _poll_lease(put: Put) -> None:
    """Neither a poll that begins nor one that opens its batch asks whose lease it is."""
    rewritten(put, "begin_poll", ("if fields[2] and tonumber(fields[2]) > now then", "if false then"))
    rewritten(put, "open_batch", ("if lease ~= '' then", "if false then"))


def _single_flight(put: Put) -> None:
    """Claim and the pair's version: the second is there for when the first fails."""
    put(TokenPairs, "claim_refresh", lambda self, name, version, seconds: True)
    put(TokenPairs, "refresh_wait", lambda self, name: RefreshWait(0.0, failed=False))
    honest = TokenPairs.refuse_refresh

    def refuse_refresh(self: TokenPairs, name: str, version: int, reason: str, *, actor: str) -> bool:
        del version
        return honest(self, name, self.get(name).version, reason, actor=actor)

    put(TokenPairs, "refuse_refresh", refuse_refresh)


def _durable_before_use(put: Put) -> None:
    honest = TokenSource._save

    def save(self: TokenSource, *named: Any) -> bool:
        later = Timer(LATE_SAVE_SECONDS, honest, (self, *named))
        later.daemon = True
        later.start()
        return True

    put(TokenSource, "_save", save)


def _endpoint_mismatch(put: Put) -> None:
    put(oauth, "_named_endpoint", lambda body, portal: None)


def _reserve_before_run(put: Put) -> None:
    """A nacked record is looked at, run while it is free, and only then reserved and cleared."""
    reserving, clearing = OfflineQueue.reserving, OfflineQueue.clearing

    def honest_reserve(queue: OfflineQueue, order: ReserveOrder) -> Batch | None:
        with reserving(queue) as reserve:
            return reserve(order)

    def honest_clear(queue: OfflineQueue, order: ClearOrder) -> None:
        with clearing(queue) as clear:
            clear(order)

    @contextmanager
    def peeking(self: OfflineQueue) -> Iterator[Callable[[ReserveOrder], Batch | None]]:
        def peek(order: ReserveOrder) -> Batch | None:
            if not order.nacked:
                return honest_reserve(self, order)
            record_id = order.filter_by["=ID"]
            process_id = f"{PEEKED}{record_id}"
            found = [replace(one, process_id=process_id) for one in self.nacked() if one.record_id == record_id]
            return Batch(self._portal, process_id, tuple(found)) if found else None

        yield peek

    @contextmanager
    def clearing_late(self: OfflineQueue) -> Iterator[Callable[[ClearOrder], None]]:
        def clear(order: ClearOrder) -> None:
            if not order.process_id.startswith(PEEKED):
                honest_clear(self, order)
                return
            for record_id in order.record_ids:
                if batch := honest_reserve(self, ReserveOrder.nacked_record(record_id)):
                    honest_clear(self, ClearOrder(batch.process_id, (record_id,)))

        yield clear

    put(OfflineQueue, "reserving", peeking)
    put(OfflineQueue, "clearing", clearing_late)


def _unknown_run(put: Put) -> None:
    """A step whose run the ledger does not know any more works with what it read of it before."""
    honest = Ledger.begin_step

    def begin_step(self: Ledger, run: str, attempt: int, position: int) -> StepLease | None:
        begun = honest(self, run, attempt, position)
        memory = f"{self.stem}:remembered:{run}"
        if begun is not None:
            self._redis.set(memory, pickle.dumps(begun).hex())
        elif not self._redis.exists(f"{self.stem}:run:{run}") and (text := self._redis.get(memory)):
            return cast("StepLease", pickle.loads(bytes.fromhex(str(text))))
        return begun

    put(Ledger, "begin_step", begin_step)


def _future(put: Put) -> None:
    """Of snapshots, and of what the mirror holds."""
    rewritten(put, "read_snapshots", ("return { now,", "return { 2 ^ 52,"))
    put(Mirror, "refuse_clock_behind", lambda self, *named, now_ms: None)


def _slots_per_portal(put: Put) -> None:
    """Any number of calls to one portal, however few of them are answered."""
    honest = call_slots._arguments

    def arguments(rules: CallRules, request_seconds: float) -> str:
        return honest(replace(rules, in_flight=10_000), request_seconds).replace('"opens_at": 3', '"opens_at": 10000')

    put(call_slots, "_arguments", arguments)
    put(portal_client, "only_reads", lambda methods: False)
    _shared_places(put)


def _shared_places(put: Put) -> None:
    """Any number of calls to silent portals at once."""
    put(suspects.SuspectPlaces, "take", lambda self, kind, slot, want="free": True)


GUARDS: Final[Mapping[str, Switch]] = {
    "two sightings": _two_sightings,
    "poll lease": _poll_lease,
    "refresh single flight": _single_flight,
    "durable before use": _durable_before_use,
    "endpoint mismatch": _endpoint_mismatch,
    "reserve before run": _reserve_before_run,
    "unknown run": _unknown_run,
    "refusal of reads from the future": _future,
    "slots per portal": _slots_per_portal,
}
"""Guard -> how it is switched off in this process."""
