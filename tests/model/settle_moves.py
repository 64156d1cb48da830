"""Settling: a look, the decision, the note of the in-doubt window, one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ledger_moves import closed
from .state import Batch, Bounds, Call, Rules, Settler, State, outcome_of, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import Label, Move


def _send(state: State, label: Label, call: Call, bounds: Bounds) -> Iterator[Move]:
    """Send a call, unless the same one is on its way: what sending it again leads to, sending it later does."""
    same = any((one.kind, one.process, one.record) == (call.kind, call.process, call.record) for one in state.calls)
    if not same and len(state.calls) < bounds.in_flight:
        yield label, state._replace(calls=tuple(sorted((*state.calls, call))))


def _leased(state: State, batch: Batch, bounds: Bounds) -> State:
    held = batch._replace(lease=bounds.settle_lease)
    return state._replace(batches=tuple(held if one is batch else one for one in state.batches))


def begin(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the first half of a settle: lease, outcomes and in-doubt windows, and a look unless all succeeded."""
    for batch in state.batches:
        outcome = outcome_of(state, batch.record, batch.stamp)
        if batch.lease or not outcome:
            continue
        name = (batch.process, batch.record)
        in_doubt = bool(state.in_doubt) and rules.in_doubt_settle
        record = record_of(state, batch.record)
        live = record is not None and record.process == batch.process
        if not rules.ids_given and outcome != "done":
            yield from _send(
                state,
                ("settle_clears_nothing", *name),
                Call("clear", batch.process, 0, 0, bounds.life, owner=False),
                bounds,
            )
        elif outcome == "unfinished":
            if not rules.close_when_finished:
                yield ("settle_closes_unfinished", *name), closed(state, batch, rules)
        elif outcome == "done" and not in_doubt:
            yield from _send(state, ("settle_clears", *name), Call("clear", *name, 0, bounds.life, owner=False), bounds)
            if not live:
                yield ("settle_cleared", *name), closed(state, batch, rules)
            elif state.pauses:
                settlers = tuple(sorted((*state.settlers, Settler(*name, "clear"))))
                yield (
                    ("settle_pauses", *name),
                    _leased(state, batch, bounds)._replace(settlers=settlers, pauses=state.pauses - 1),
                )
        elif not live and rules.look_live:
            yield ("settle_finds_gone", *name), closed(state, batch, rules)
        elif outcome == "failed" and not in_doubt:
            if live and record is not None and record.nacked and rules.nacked_once:
                continue
            settler = Settler(*name, "look")
            if settler not in state.settlers:
                yield (
                    ("settle_looks", *name),
                    _leased(state, batch, bounds)._replace(settlers=tuple(sorted((*state.settlers, settler)))),
                )


def go_on(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the rest of a settle that looked: it looks for newer records, notes the in-doubt window, and sends."""
    for settler in state.settlers:
        rest = state._replace(settlers=tuple(one for one in state.settlers if one is not settler))
        batch = next((one for one in state.batches if one.process == settler.process), None)
        name = (settler.process, settler.record)
        if settler.stage == "look":
            newer = rules.look_newer and any(
                not record.nacked
                and (record.id > settler.record or (not rules.newer_is_greater and record.id != settler.record))
                for record in state.records
            )
            if newer:
                yield _stage(rest, settler, "supersede")
            elif batch is not None and (not batch.young or not rules.nack_age):
                yield _stage(rest, settler, "nack")
            continue
        if settler.stage == "clear":
            if not rules.lease_to_clear or (batch is not None and batch.lease):
                yield from _send(
                    rest, ("resumes_clear", *name), Call("clear", *name, 0, bounds.life, owner=False), bounds
                )
            continue
        if rules.settle_lease and (batch is None or not batch.lease):
            continue
        # The settle ends with its call, whatever is answered, and so does its lease.
        batches = tuple(one._replace(lease=0) if one is batch else one for one in rest.batches)
        noted = rules.in_doubt_superseded or settler.stage == "nack"
        after = rest._replace(batches=batches, in_doubt=bounds.in_doubt if noted else rest.in_doubt)
        if settler.stage == "supersede":
            call = Call("clear", *name, 0, bounds.life, owner=False)
        else:
            call = Call("error", settler.process, 0, 0, bounds.life, owner=False)
        yield from _send(after, (f"sends_{settler.stage}", *name), call, bounds)


def _stage(rest: State, settler: Settler, stage: str) -> Move:
    label = (f"settle_will_{stage}", settler.process, settler.record)
    return label, rest._replace(settlers=tuple(sorted((*rest.settlers, settler._replace(stage=stage)))))
