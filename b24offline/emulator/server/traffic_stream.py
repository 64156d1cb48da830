"""A steady stream of changes of a portal's objects, made by a thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from b24offline.emulator.state import ACTIONS, ADD, DELETE, UPDATE, change_one

if TYPE_CHECKING:
    from b24offline.emulator.state import Portal, TrafficPlan


@dataclass(slots=True)
class _Run:
    plan: TrafficPlan
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACTIONS, 0))
    late_seconds: float = 0.0


class TrafficStream:
    """The stream of one portal. It is an open loop: a slow moment is caught up, the count stays exact."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._stream: _Run | None = None

    def start(self, plan: TrafficPlan) -> None:
        """Start the stream; stop a running one first."""
        self.stop()
        stream = _Run(plan)
        stream.thread = threading.Thread(target=self._run, args=(stream,), name="traffic", daemon=True)
        self._stream = stream
        stream.thread.start()

    def stop(self) -> dict[str, Any]:
        """Stop the stream and return its report."""
        stream = self._stream
        if stream is not None and stream.thread is not None:
            stream.stop.set()
            stream.thread.join()
        return self.report()

    def report(self) -> dict[str, Any]:
        """Return whether it runs, the changes made by action, and how far it lags behind its plan in seconds."""
        stream = self._stream
        counts = dict.fromkeys(ACTIONS, 0) if stream is None else dict(stream.counts)
        running = stream is not None and stream.thread is not None and stream.thread.is_alive()
        late = 0.0 if stream is None else round(stream.late_seconds, 3)
        return {"running": running, "count": sum(counts.values()), "counts": counts, "late_seconds": late}

    def _run(self, stream: _Run) -> None:
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
