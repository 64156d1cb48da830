"""Parking: held runs that are given up until a person acts, and what a person may do about them.

The dead letter is durable before the run is parked, and the sweep looks for it again once a day, so that a death
between the two, or the loss of either, is made up for. A parked run is not final: its batch stays open, so that its
record is neither cleared nor adopted. Drawn in `docs/error-lane.md`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal

from b24offline.events import stamp_seconds

if TYPE_CHECKING:
    from b24offline.config import Timers
    from b24offline.events import Event
    from b24offline.ledger import Handed, Ledger
    from b24offline.store import DeadLetter, DeadLetters

log = logging.getLogger(__name__)

UNTRIED: Final = "never ran"

Parked = Literal["parked", "kept", "moved", "done"]


class Parking:
    """The parking of one portal. ``letters`` are those of the durable store."""

    def __init__(self, ledger: Ledger, letters: DeadLetters, timers: Timers) -> None:
        self._ledger = ledger
        self._letters = letters
        self._timers = timers

    def park(self, one: Handed) -> Parked:
        """Parks a held run that the sweep found hopeless, or looks after one that is parked; may be repeated.

        Answers "kept" when it was parked before, "moved" when somebody had it first, "done" when it is closed.
        Raises `StoreError` when the store is away or refuses the letter: the run then comes again by its due time.
        """
        found = self._ledger.event_of(one.run)
        state, reason = self.state_of(one.run)
        if found is None or state in {"", "running", "succeeded", "superseded", "failed"}:
            return "done"
        event = found[0]
        letter = self._write(event, one.pipeline, reason or UNTRIED)
        rest = round(self._timers.held_backoff_seconds[-1] * 1000)
        told: Parked = self._ledger.transition("park_run", one.run, one.attempt, rest)
        if told == "done" and not self.state_of(one.run)[0]:
            # It was settled meanwhile; nobody else would end a letter written after that.
            self._letters.end(letter)
        if told == "parked":
            log.error(
                "event parked, a person must decide",
                extra={
                    "portal": event.portal,
                    "dead_letter": letter,
                    "record_id": event.record_id,
                    "event": event.name,
                    "pipeline": one.pipeline,
                    "reason": reason or UNTRIED,
                },
            )
        return told

    def redrive(self, run: str, *, delay_seconds: float = 0.0) -> str:
        """Lets a parked run, or one that waits aside, start again by the sweep, with all its chances.

        Answers "redriven", the state that forbids it ("ready", "running", "succeeded", ...), or "unknown" when the
        ledger does not know the run.
        """
        due = round(self._timers.settle_due_seconds * 1000)
        return str(self._ledger.transition("redrive_run", run, round(delay_seconds * 1000), due))

    def drop(self, run: str, who: str) -> str:
        """Gives a parked run, or one that waits aside, up for good: its record is cleared by the next settle.

        Answers "dropped", or as `redrive`.
        """
        return str(self._ledger.transition("drop_run", run, f"dropped by {who}"))

    def state_of(self, run: str) -> tuple[str, str]:
        """The state of a run and the reason for it; ``""`` for one that the ledger does not know."""
        state, reason = self._ledger.run_fields(run, "state", "reason")
        return state, reason

    def _write(self, event: Event, pipeline: str, reason: str) -> int:
        return self._letters.add(
            portal=event.portal,
            record_id=event.record_id,
            message_id=event.message_id,
            event_name=event.name,
            object=str(event.object) if event.object else "",
            pipeline=pipeline,
            reason=reason,
            payload={"stamp": event.stamp, "user_id": event.user_id, "data": event.data},
        )


def run_of_letter(letter: DeadLetter) -> str:
    """The run that a letter is about: ``123@1775203200/deal_changed``."""
    return f"{letter.record_id}@{stamp_seconds(str(letter.payload['stamp']))}/{letter.pipeline}"
