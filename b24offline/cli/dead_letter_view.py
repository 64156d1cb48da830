"""How dead letters are shown: as a table for people, as facts for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError

from b24offline.cli.output import show_json, show_table, span
from b24offline.delivery import run_of_dead_letter
from b24offline.errors import UnknownPortal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.runtime import Runtime
    from b24offline.store import DeadLetter

TITLES: Final = ("id", "portal", "record", "event", "object", "pipeline", "reason", "age", "now")
STATE_WORDS: Final = {"dead_lettered": "dead-lettered"}
"""State of a run -> how it is shown, where that differs."""


def show_dead_letters(runtime: Runtime, dead_letters: Sequence[DeadLetter]) -> None:
    """Print a table of dead letters."""
    show_table(TITLES, [_row(runtime, dead_letter) for dead_letter in dead_letters])


def show_dry_run(runtime: Runtime, dead_letters: Sequence[DeadLetter], what: str, *, as_json: bool) -> None:
    """Print which dead letters a command would change."""
    if as_json:
        show_json([facts(runtime, dead_letter) for dead_letter in dead_letters])
        return
    if dead_letters:
        show_dead_letters(runtime, dead_letters)
    click.echo(f"{len(dead_letters)} {what}.")


def facts(runtime: Runtime, dead_letter: DeadLetter) -> dict[str, Any]:
    """Return everything about a dead letter except its payload."""
    return {
        "id": dead_letter.id,
        "portal": dead_letter.portal,
        "record_id": dead_letter.record_id,
        "message_id": dead_letter.message_id,
        "event": dead_letter.event_name,
        "object": dead_letter.object,
        "pipeline": dead_letter.pipeline,
        "reason": dead_letter.reason,
        "dead_lettered_at": dead_letter.created_at.isoformat(timespec="seconds"),
        "ended_at": dead_letter.ended_at.isoformat(timespec="seconds") if dead_letter.ended_at else None,
        "now": _state(runtime, dead_letter),
    }


def _row(runtime: Runtime, dead_letter: DeadLetter) -> tuple[str, ...]:
    known = facts(runtime, dead_letter)
    age = (datetime.now(UTC) - dead_letter.created_at).total_seconds()
    cells = (str(known[name]) for name in ("id", "portal", "record_id", "event", "object", "pipeline", "reason"))
    return (*cells, span(age), str(known["now"]))


def _state(runtime: Runtime, dead_letter: DeadLetter) -> str:
    """Return the state of its run; "unknown" to the ledger, "ended", or "?" where the ledger cannot be reached."""
    if dead_letter.ended_at:
        return "ended"
    try:
        state = runtime.services(dead_letter.portal).dead_letter_queue.state_of(run_of_dead_letter(dead_letter))[0]
    except UnknownPortal:
        return "unknown"
    except RedisError:
        return "?"
    return STATE_WORDS.get(state, state) or "unknown"
