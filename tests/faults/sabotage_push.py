"""Switches off what makes up for lost messages of a portal: polls beside signals, and installations that are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from b24offline.delivery import poll_turn
from b24offline.store import Installations

if TYPE_CHECKING:
    from b24offline.config import Lane
    from tests.faults.sabotage_portal import Put, Switch

NEVER_SECONDS: Final = 100_000.0


def _polls_beside_signals(put: Put) -> None:
    """A portal whose signals are heard is polled when it signals, and else never."""
    honest = poll_turn.PollTurns._wait_seconds

    def wait_seconds(self: poll_turn.PollTurns, lane: Lane, received: int, asked: int) -> float:
        seconds = honest(self, lane, received, asked)
        return NEVER_SECONDS if seconds and self._portal.lanes.signals().heard_ms else seconds

    put(poll_turn.PollTurns, "_wait_seconds", wait_seconds)


def _stored_before_the_answer(put: Put) -> None:
    put(Installations, "keep", lambda self, installation: True)


GUARDS: Final[Mapping[str, Switch]] = {
    "polls beside signals": _polls_beside_signals,
    "installation stored before its answer": _stored_before_the_answer,
}
"""Guard -> how it is switched off in this process."""
