"""The three ways from the portal into the ledger: polls, adoption of orphans, redrive of nacked records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ledger_moves import opened
from .state import FREE, Batch, Bounds, Call, Look, Rules, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import Move

RESERVING = {"get", "get-nacked", "picked"}


def _may_reserve(state: State, rules: Rules, bounds: Bounds) -> bool:
    if state.recovery or (state.poll and rules.poll_lease) or len(state.calls) >= bounds.in_flight:
        return False
    return sum(call.kind in RESERVING for call in state.calls) < bounds.polls


def poll(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the sending of a reserving call under the poll lease, also while nothing is free yet: it may come late."""
    free = any(record.process == FREE and not record.nacked for record in state.records)
    if not _may_reserve(state, rules, bounds) or not (free or state.changes):
        return
    call = Call("get", 0, 0, 0, bounds.reserving, owner=True)
    if call in state.calls:
        return
    yield ("poll",), state._replace(poll=bounds.poll_lease, calls=tuple(sorted((*state.calls, call))))


def sighted(state: State, rules: Rules, bounds: Bounds) -> State:
    """Note orphans and free nacked records as early as they can be listed: noting later only waits longer."""
    lane = state.lane
    if rules.error_lane:
        seen = dict(lane)
        wait = bounds.redrive_wait if rules.redrive_wait else 0
        lane = tuple(
            (record.id, seen.get(record.id, wait))
            for record in state.records
            if record.nacked and record.process == FREE
        )
    orphans = state.orphans
    if not state.recovery:
        known = {batch.process for batch in state.batches}
        noted = dict(orphans)
        wait = bounds.sighting if rules.two_sightings else 0
        listed = sorted(record.process for record in state.records if record.process not in {FREE, *known})
        orphans = tuple((process, noted.get(process, wait)) for process in listed)
    return state if orphans == state.orphans and lane == state.lane else state._replace(orphans=orphans, lane=lane)


def adopt(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the opening of orphans that were seen long enough ago."""
    if not rules.adoption or state.recovery or (state.poll and rules.poll_lease):
        return
    due = {process for process, left in state.orphans if not left}
    if not due:
        return
    after = state
    for record in state.records:
        if record.process in due:
            young = 0 if rules.two_sightings else bounds.nack_age
            batch = Batch(record.process, record.id, record.stamp, young, 0)
            after = opened(after, batch, rules, bounds, nacked=record.nacked)
    if after is not state:
        in_doubt = bounds.in_doubt if rules.in_doubt_adoption else state.in_doubt
        yield ("adopted", *sorted(due)), after._replace(in_doubt=in_doubt)


def adopt_at_once(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield what happens after an unanswered call: two lists show what is reserved and unknown; then it is opened.

    In the code under the poll lease only, here at any time; with `late_looks` a while after the second list.
    """
    if not rules.adoption:
        return
    known = {batch.process for batch in state.batches}
    looked = {look.process for look in state.looks}
    for record in state.records:
        if state.epoch or record.process in {FREE, *looked} or (record.process in known and rules.two_lists):
            continue
        look = Look(record.process, record.id, record.stamp, record.nacked, bounds.poll_lease)
        if bounds.late_looks:
            yield ("looked", look.process), state._replace(looks=tuple(sorted((*state.looks, look))))
        else:
            yield ("adopted_at_once", look.process), _at_once(state, look, rules, bounds)
    for look in state.looks:
        if look.process not in known:
            rest = state._replace(looks=tuple(one for one in state.looks if one is not look))
            yield ("adopted_at_once", look.process), _at_once(rest, look, rules, bounds)


def _at_once(state: State, look: Look, rules: Rules, bounds: Bounds) -> State:
    wait = bounds.sighting if rules.two_sightings else 0
    since_sighted = wait - dict(state.orphans).get(look.process, wait)
    young = max(0, bounds.nack_age - since_sighted) if rules.fresh_at_once else 0
    batch = Batch(look.process, look.record, look.stamp, young, 0)
    return opened(state, batch, rules, bounds, nacked=look.nacked)


def redrive(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Yield the call that reserves a free nacked record, seen long enough ago, by its id."""
    if not rules.error_lane or not _may_reserve(state, rules, bounds) or (state.in_doubt and rules.in_doubt_redrive):
        return
    for number, left in state.lane:
        call = Call("get-nacked", 0, number, 0, bounds.reserving, owner=True)
        if not left and call not in state.calls:
            yield (
                ("redrive", number),
                state._replace(poll=bounds.poll_lease, calls=tuple(sorted((*state.calls, call)))),
            )
