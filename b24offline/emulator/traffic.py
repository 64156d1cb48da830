"""Changes of a portal's objects by other people: singly, or as a steady stream."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, fields
from random import Random
from typing import TYPE_CHECKING, Any

from b24offline.emulator.portal import ACTIONS, ADD, DELETE, UPDATE
from b24offline.emulator.templates import ENTITIES

if TYPE_CHECKING:
    from b24offline.emulator.portal import Portal


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """`rate` changes a real second, for `seconds` (null: until stopped), weighted by action.

    `entities` limits what is changed, `hot` limits it to that many objects of each entity, so that they
    change often.
    """

    rate: float = 10.0
    seconds: float | None = None
    add: float = 1.0
    update: float = 8.0
    delete: float = 1.0
    seed: int = 1
    entities: tuple[str, ...] = ENTITIES
    hot: int | None = None


def parse_traffic(raw: dict[str, Any]) -> TrafficPlan:
    """Read a plan from JSON; ValueError says what is wrong with it."""
    known = {one.name for one in fields(TrafficPlan)}
    unknown = set(raw) - known
    if unknown:
        raise ValueError(f"unknown keys of a traffic plan: {sorted(unknown)}; known are {sorted(known)}")
    plan = TrafficPlan(**{**raw, "entities": tuple(raw.get("entities") or ENTITIES)})
    if plan.rate <= 0 or min(plan.add, plan.update, plan.delete) < 0 or plan.add + plan.update + plan.delete <= 0:
        raise ValueError("traffic needs a rate greater than 0 and weights of which one is greater than 0")
    if not set(plan.entities) <= set(ENTITIES):
        raise ValueError(f"unknown entities in {list(plan.entities)}; known are {list(ENTITIES)}")
    return plan


def change_one(portal: Portal, entity: str, action: str, hot: int | None = None) -> str:
    """Make one change at random and return the object's id; where nothing is left, one is added."""
    found = None if action == ADD else portal.objects.pick(entity, hot)
    if found is None:
        return portal.add(entity).id
    if action == UPDATE:
        portal.update(found)
    else:
        portal.delete(found)
    return found.id


@dataclass(slots=True)
class _Stream:
    plan: TrafficPlan
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))
    late_seconds: float = 0.0


class Traffic:
    """The stream of one portal. It is an open loop: a slow moment is caught up, the count stays exact."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._stream: _Stream | None = None

    def start(self, plan: TrafficPlan) -> None:
        """Begin; a running stream is stopped first."""
        self.stop()
        stream = _Stream(plan)
        stream.thread = threading.Thread(target=self._run, args=(stream,), name="traffic", daemon=True)
        self._stream = stream
        stream.thread.start()

    def stop(self) -> dict[str, Any]:
        """End the stream and report it."""
        stream = self._stream
        if stream is not None and stream.thread is not None:
            stream.stop.set()
            stream.thread.join()
        return self.report()

    def report(self) -> dict[str, Any]:
        """Whether it runs, the changes made by action, and how far it lags behind its plan in seconds."""
        stream = self._stream
        counts = dict.fromkeys(ACTIONS, 0) if stream is None else dict(stream.counts)
        running = stream is not None and stream.thread is not None and stream.thread.is_alive()
        late = 0.0 if stream is None else round(stream.late_seconds, 3)
        return {"running": running, "count": sum(counts.values()), "counts": counts, "late_seconds": late}

    def _run(self, stream: _Stream) -> None:
        plan, rng = stream.plan, Random(stream.plan.seed)
        weights = {ADD: plan.add, UPDATE: plan.update, DELETE: plan.delete}
        total = None if plan.seconds is None else round(plan.rate * plan.seconds)
        begun, made = time.monotonic(), 0
        while total is None or made < total:
            due = begun + made / plan.rate
            wait = due - time.monotonic()
            if stream.stop.is_set() or (wait > 0 and stream.stop.wait(wait)):
                return
            stream.late_seconds = max(0.0, -wait)
            action = rng.choices(list(weights), list(weights.values()))[0]
            entity = rng.choice(plan.entities)
            with self._portal.lock:
                before = self._portal.objects.counts()[entity]
                change_one(self._portal, entity, action, plan.hot)
                after = self._portal.objects.counts()[entity]
            done = {1: ADD, 0: UPDATE, -1: DELETE}[after - before]
            stream.counts[done] += 1
            made += 1
