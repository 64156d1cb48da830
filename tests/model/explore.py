"""Breadth first through every state within the bounds: the first violation that is found has a shortest history."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .intake_moves import adopt, adopt_at_once, poll, redrive, sighted
from .ledger_moves import closed, loss, run_moves
from .portal_moves import change, network, tick
from .settle_moves import begin, go_on
from .state import FREE, Bounds, Call, Rules, State, initial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .state import Label, Move


DRAIN_STEPS: Final = 120


@dataclass(frozen=True)
class Explored:
    """What an exploration found. `history`: labels from the beginning to the violation; empty where there is none."""

    violation: str
    history: tuple[Label, ...]
    states: int
    transitions: int
    seconds: float
    complete: bool


def moves(state: State, rules: Rules, bounds: Bounds) -> Iterator[Move]:
    """Everything that may happen next."""
    yield from change(state, bounds)
    yield from poll(state, rules, bounds)
    yield from network(state, rules, bounds)
    yield from run_moves(state, rules, bounds)
    yield from begin(state, rules, bounds)
    yield from go_on(state, rules, bounds)
    yield from adopt(state, rules, bounds)
    yield from adopt_at_once(state, rules, bounds)
    yield from redrive(state, rules, bounds)
    yield from loss(state, rules, bounds)
    yield from tick(state, rules)


def reduced(state: State, rules: Rules, bounds: Bounds) -> State:
    """Return the one state that stands for several.

    Calls that can do nothing any more are dropped. Not equivalent is the closing of batches whose record the portal has
    no more under their process id and which nobody settles, finished or not: it restricts the exploration to settles
    that find it out at once. `linger` lifts that.
    """
    where = {record.id: record.process for record in state.records}
    calls = tuple(call for call in state.calls if _may_matter(call, where, rules))
    if len(calls) != len(state.calls):
        state = state._replace(calls=calls)
    if not bounds.linger:
        settling = {settler.process for settler in state.settlers if settler.stage != "clear"}
        for batch in state.batches:
            if where.get(batch.record) != batch.process and batch.process not in settling:
                state = closed(state, batch, rules)
    return sighted(state, rules, bounds)


def _may_matter(call: Call, where: dict[int, int], rules: Rules) -> bool:
    if call.kind == "clear" and rules.process_scope and call.record:
        return where.get(call.record) == call.process
    return call.kind not in {"picked", "get-nacked"} or call.record in where


def violated(state: State) -> str:
    """Return what is wrong with a state in itself."""
    if state.wrong:
        return state.wrong
    if not state.records and state.uncovered:
        return "lost: no record is left, and a pipeline has completed no run that began after the last change"
    return ""


class Drains:
    """Whether the protocol, left alone from a state, ends with an empty queue and the last change covered."""

    def __init__(self, rules: Rules, bounds: Bounds) -> None:
        self._rules = rules
        self._bounds = bounds
        self._known: dict[State, bool] = {}

    def stuck(self, state: State) -> bool:
        """Follow one fair course without further faults: calls are answered, runs succeed, time passes."""
        state = state._replace(changes=0, repeats=0, losses=0, freezes=0, pauses=0, settlers=(), stragglers=())
        path = []
        good = False
        for _ in range(DRAIN_STEPS):
            if state in self._known:
                good = self._known[state]
                break
            path.append(state)
            following = self._next(state)
            if following is None:
                good = not state.uncovered and not state.records and not state.batches
                break
            state = following
        for one in path:
            self._known[one] = good
        return not good

    def _next(self, state: State) -> State | None:
        rules, bounds = self._rules, self._bounds
        sources = (
            network(state, rules, bounds),
            go_on(state, rules, bounds),
            (move for move in run_moves(state, rules, bounds) if move[0][0] != "run_fails"),
            begin(state, rules, bounds),
            poll(state, rules, bounds),
            (move for move in redrive(state, rules, bounds)),
            (move for move in adopt(state, rules, bounds)),
            tick(state, rules),
        )
        for source in sources:
            for label, after in source:
                if label[0] == "poll" and not any(r.process == FREE and not r.nacked for r in state.records):
                    continue
                later = reduced(after, rules, bounds)
                if later != state:
                    return later
        return None


def explore(
    rules: Rules, bounds: Bounds, *, limit: int = 5_000_000, seconds: float = 1e9, drains: bool = False
) -> Explored:
    """Return all states within the bounds, or up to the first violation. `drains`: also whether each state can be
    drained."""
    began = time.monotonic()
    start = initial(bounds)
    came: dict[State, tuple[State, Label] | None] = {start: None}
    front = [start]
    transitions = 0
    check = Drains(rules, bounds) if drains else None

    def found(violation: str, state: State | None, complete: bool) -> Explored:
        history: list[Label] = []
        while state is not None and (step := came[state]) is not None:
            history.append(step[1])
            state = step[0]
        return Explored(violation, tuple(reversed(history)), len(came), transitions, time.monotonic() - began, complete)

    while front:
        following = []
        for state in front:
            for label, unreduced in moves(state, rules, bounds):
                transitions += 1
                after = reduced(unreduced, rules, bounds)
                if after in came:
                    continue
                came[after] = (state, label)
                wrong = violated(after)
                if not wrong and check and check.stuck(after):
                    wrong = "stuck: left alone, the protocol never runs the last change or never ends"
                if wrong:
                    return found(wrong, after, False)
                following.append(after)
            if len(came) > limit or time.monotonic() - began > seconds:
                return found("", None, False)
        front = following
    return found("", None, True)
