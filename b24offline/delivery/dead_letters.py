"""Dead-lettering: retrying runs that are given up until a person acts, and what a person may do about them.

The dead letter is durable before the run is dead-lettered, and the sweep looks for it again once a day, so that a death
between the two, or the loss of either, is made up for. A dead-lettered run is not final: its batch stays open, so that
its record is neither cleared nor adopted. Drawn in `docs/error-lane.md`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.events import stamp_seconds

if TYPE_CHECKING:
    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Event
    from b24offline.ledger import DeadLettered, RunRef
    from b24offline.store import DeadLetter

log = logging.getLogger(__name__)

UNTRIED: Final = "never ran"
ERROR_KEPT_SECONDS: Final = 8 * 86_400
"""How long the words of a run's last error are kept: longer than a retrying run waits."""
ERROR_CHARACTERS: Final = 16_000


class DeadLetterQueue:
    """The dead-lettering of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal

    def dead_letter(self, exhausted: RunRef) -> DeadLettered:
        """Dead-letter a run that used up its attempts, or check on a dead-lettered one. Safe to repeat.

        Return "kept" when it was dead-lettered before, "moved" when another process has it, "done" when it is closed.
        Raise `StoreError` when the store is away or refuses the dead letter: the run then comes again by its due time.
        """
        known = self._portal.ledger.event_of(exhausted.run)
        state, reason = self.state_of(exhausted.run)
        if known is None or state in {"", "running", "succeeded", "superseded", "failed"}:
            return "done"
        event = known[0]
        dead_letter = self._write(event, exhausted, reason or UNTRIED)
        reply = self._portal.ledger.dead_letter(exhausted.run, exhausted.attempt)
        if reply == "done" and not self.state_of(exhausted.run)[0]:
            # It was settled meanwhile; nobody else would end a dead letter written after that.
            self._portal.store.dead_letters.end(dead_letter)
        if reply == "dead_lettered":
            log.error(
                "event dead-lettered, a person must decide",
                extra={
                    "portal": event.portal,
                    "dead_letter": dead_letter,
                    "record_id": event.record_id,
                    "event": event.name,
                    "pipeline": exhausted.pipeline,
                    "reason": reason or UNTRIED,
                },
            )
        return reply

    def note_error(self, run: str, words: str) -> None:
        """Keep, encrypted, what the dead letter of a run will say of its last error; ``""`` forgets the one before."""
        key = keys.error(self._portal.ledger.stem, run)
        if words:
            sealed = self._portal.store.dead_letters.seal(words[-ERROR_CHARACTERS:], self._portal.name, run)
            self._portal.redis.set(key, sealed, ex=ERROR_KEPT_SECONDS)
        else:
            self._portal.redis.delete(key)

    def _noted_error(self, run: str) -> str:
        sealed = self._portal.redis.get(keys.error(self._portal.ledger.stem, run))
        return self._portal.store.dead_letters.unseal(str(sealed), self._portal.name, run) if sealed else ""

    def redrive(self, run: str, *, delay_seconds: float = 0.0) -> str:
        """Let a dead-lettered run, or one that waits between attempts, start again by the sweep, with all its attempts.

        Return "redriven", the state that forbids it ("ready", "running", "succeeded", ...), or "unknown" when the
        ledger does not know the run.
        """
        return self._portal.ledger.redrive(run, delay_seconds=delay_seconds)

    def drop(self, run: str, who: str) -> str:
        """Give a dead-lettered run, or one that waits, up for good: its record is cleared by the next settle.

        Return "dropped", or as `redrive`.
        """
        return self._portal.ledger.drop(run, reason=f"dropped by {who}")

    def state_of(self, run: str) -> tuple[str, str]:
        """Return the state of a run and the reason for it; ``""`` for one that the ledger does not know."""
        state, reason = self._portal.ledger.run_fields(run, "state", "reason")
        return state, reason

    def _write(self, event: Event, exhausted: RunRef, reason: str) -> int:
        error = self._noted_error(exhausted.run)
        return self._portal.store.dead_letters.add(
            portal=event.portal,
            record_id=event.record_id,
            message_id=event.message_id,
            event_name=event.name,
            object=str(event.object) if event.object else "",
            pipeline=exhausted.pipeline,
            reason=reason,
            payload={"stamp": event.stamp, "user_id": event.user_id, "data": event.data, "error": error},
        )


def run_of_dead_letter(dead_letter: DeadLetter) -> str:
    """Return the run that a dead letter is about: ``123@1775203200/deal_changed``."""
    return f"{dead_letter.record_id}@{stamp_seconds(str(dead_letter.payload['stamp']))}/{dead_letter.pipeline}"
