"""What the portal and the network do: changes, the execution of calls (in time, late, twice), time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ledger_moves import opened
from .state import FREE, Batch, Bounds, Call, Record, Rules, State, new_process, new_record, new_stamp, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import Move


def without(calls: tuple[Call, ...], call: Call) -> tuple[Call, ...]:
    """Return the calls less one of them."""
    at = calls.index(call)
    return calls[:at] + calls[at + 1 :]


def change(state: State, bounds: Bounds) -> Iterator[Move]:
    """Yield a change of the object: a free record of the message, nacked or not, is stamped again; else one comes."""
    if not state.changes:
        return
    runs = tuple(run._replace(state="stale") if run.state == "fresh" else run for run in state.runs)
    stragglers = tuple(sorted({one._replace(fresh=False) for one in state.stragglers}))
    written = tuple((key, False) for key, _ in state.written)
    for record in state.records:
        if record.process == FREE:
            stamped = record._replace(stamp=new_stamp(state, record))
            records = tuple(stamped if one is record else one for one in state.records)
            label = ("change_repeats", record.id)
            break
    else:
        number = new_record(state)
        records = (*state.records, Record(number, FREE, nacked=False, stamp=0))
        label = ("change_new", number)
    yield (
        label,
        state._replace(
            records=records,
            uncovered=bounds.names,
            runs=runs,
            stragglers=stragglers,
            written=written,
            changes=state.changes - 1,
        ),
    )


def _down(number: int) -> int:
    return number - 1 if number else 0


def tick(state: State, rules: Rules) -> Iterator[Move]:
    """Yield the passing of time: leases and periods run down, calls that outlived their life are gone."""
    poll = _down(state.poll)
    batches = tuple(b._replace(young=_down(b.young), lease=_down(b.lease)) for b in state.batches)
    leased = {batch.process for batch in batches if batch.lease}
    settlers = tuple(
        one
        for one in state.settlers
        if one.process in leased or not (rules.lease_to_clear if one.stage == "clear" else rules.settle_lease)
    )
    polling = bool(poll) or not rules.poll_lease
    calls = tuple(
        sorted(call._replace(life=call.life - 1, owner=call.owner and polling) for call in state.calls if call.life)
    )
    later = state._replace(
        batches=batches,
        poll=poll,
        in_doubt=_down(state.in_doubt),
        recovery=_down(state.recovery),
        epoch=_down(state.epoch),
        looks=tuple(look._replace(left=look.left - 1) for look in state.looks if look.left),
        orphans=tuple((process, _down(left)) for process, left in state.orphans),
        lane=tuple((record, _down(left)) for record, left in state.lane),
        settlers=settlers,
        calls=calls,
    )
    if later != state:
        yield ("tick",), later


def network(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the execution of each call on the network, and its copy, to be executed twice."""
    seen = None
    for call in state.calls:
        if call == seen:
            continue
        seen = call
        if call.kind == "get":
            yield from _choose(state, call, bounds)
        elif call.kind == "get-nacked":
            yield from _take_nacked(state, call, rules, bounds)
        elif call.kind == "picked":
            yield from _reserve(state, call, rules, bounds)
        elif call.kind == "clear":
            yield from _clear(state, call, rules)
        elif call.kind == "error":
            yield from _error(state, call)
        if state.repeats and call.kind != "picked" and len(state.calls) <= bounds.in_flight:
            copy = call._replace(owner=False)
            yield (
                ("copied", call.kind, call.process, call.record),
                state._replace(calls=tuple(sorted((*state.calls, copy))), repeats=state.repeats - 1),
            )


def _choose(state: State, call: Call, bounds: Bounds) -> Iterator[Move]:
    for record in state.records:
        if record.process == FREE and not record.nacked:
            picked = Call("picked", 0, record.id, 0, bounds.choosing, call.owner)
            yield (
                ("get_picks", record.id),
                state._replace(calls=tuple(sorted((*without(state.calls, call), picked)))),
            )


def _put(state: State, call: Call, record: Record, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the record under a new process id: the answer opens the batch, or is lost with its caller."""
    process = new_process(state)
    moved = record._replace(process=process)
    records = tuple(moved if one is record else one for one in state.records)
    if not rules.explicit_keep:
        records = tuple(one for one in records if one is not moved)
    after = state._replace(records=records, calls=without(state.calls, call))
    nacked = call.kind == "get-nacked"
    label = ("reserved_nacked" if nacked else "reserved", record.id, record.process, process)
    if call.owner:
        batch = Batch(process, record.id, record.stamp, bounds.nack_age, 0)
        yield (*label, "opened"), opened(after, batch, rules, bounds, nacked=nacked)._replace(poll=0)
    yield (*label, "answer lost"), after


def _reserve(state: State, call: Call, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    record = record_of(state, call.record)
    if record is not None:
        yield from _put(state, call, record, rules, bounds)


def _take_nacked(state: State, call: Call, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    record = record_of(state, call.record)
    if record is not None and record.process == FREE and record.nacked:
        yield from _put(state, call, record, rules, bounds)


def _clear(state: State, call: Call, rules: Rules) -> Iterator[Move]:
    if rules.process_scope:
        gone = [r for r in state.records if r.process == call.process and call.record in {0, r.id}]
    else:
        gone = [r for r in state.records if r.process == FREE]
    if gone:
        after = state._replace(
            records=tuple(record for record in state.records if record not in gone), calls=without(state.calls, call)
        )
        if [record.id for record in gone] != [call.record]:
            after = after._replace(wrong="records were cleared that no outcome covers")
        yield ("clear", call.process, tuple(record.id for record in gone)), after


def _error(state: State, call: Call) -> Iterator[Move]:
    records: list[Record] = []
    nacked, deleted = [], []
    for record in state.records:
        if record.nacked:
            records.append(record)
        elif record.process == call.process:
            records.append(record._replace(process=FREE, nacked=True))
            nacked.append(record.id)
        else:
            deleted.append(record.id)
    if nacked or deleted:
        after = state._replace(records=tuple(records), calls=without(state.calls, call))
        yield ("error", call.process, tuple(nacked), tuple(deleted)), after
