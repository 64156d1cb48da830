"""How dead letters are shown: as rows for people, as facts for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError

from b24offline.cli.output import show_json, show_table, span
from b24offline.delivery import run_of_letter
from b24offline.errors import UnknownPortal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.runtime import Runtime
    from b24offline.store import DeadLetter

TITLES: Final = ("id", "portal", "record", "event", "object", "pipeline", "reason", "age", "now")
STATE_WORDS: Final = {"parked": "dead-lettered"}
"""State of a run -> the word for it, where they differ."""


def show_letters(runtime: Runtime, letters: Sequence[DeadLetter]) -> None:
    """Print a table of dead letters."""
    show_table(TITLES, [_row(runtime, letter) for letter in letters])


def tell_dry_run(runtime: Runtime, letters: Sequence[DeadLetter], what: str, *, as_json: bool) -> None:
    """Print which dead letters a command would change."""
    if as_json:
        show_json([facts(runtime, letter) for letter in letters])
        return
    if letters:
        show_letters(runtime, letters)
    click.echo(f"{len(letters)} {what}.")


def facts(runtime: Runtime, letter: DeadLetter) -> dict[str, Any]:
    """Return everything about a dead letter but its payload."""
    return {
        "id": letter.id,
        "portal": letter.portal,
        "record_id": letter.record_id,
        "message_id": letter.message_id,
        "event": letter.event_name,
        "object": letter.object,
        "pipeline": letter.pipeline,
        "reason": letter.reason,
        "dead_lettered_at": letter.created_at.isoformat(timespec="seconds"),
        "ended_at": letter.ended_at.isoformat(timespec="seconds") if letter.ended_at else None,
        "now": _state(runtime, letter),
    }


def _row(runtime: Runtime, letter: DeadLetter) -> tuple[str, ...]:
    known = facts(runtime, letter)
    age = (datetime.now(UTC) - letter.created_at).total_seconds()
    cells = (str(known[name]) for name in ("id", "portal", "record_id", "event", "object", "pipeline", "reason"))
    return (*cells, span(age), str(known["now"]))


def _state(runtime: Runtime, letter: DeadLetter) -> str:
    """Return the state of its run: "unknown" to the ledger, "ended" when it is over, "?" without a ledger."""
    if letter.ended_at:
        return "ended"
    try:
        state = runtime.kit(letter.portal).parking.state_of(run_of_letter(letter))[0]
    except UnknownPortal:
        return "unknown"
    except RedisError:
        return "?"
    return STATE_WORDS.get(state, state) or "unknown"
