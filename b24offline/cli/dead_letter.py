"""`b24offline dead-letter`: events that failed all their attempts, and what a person decides about them.

The commands write to the ledger and the database, where the workers' next sweep finds it. No portal is called.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import track

from b24offline.cli.audited import Audited, operator
from b24offline.cli.dead_letter_options import changing, filters
from b24offline.cli.dead_letter_view import STATE_WORDS, facts, show_dead_letters
from b24offline.cli.output import Refusal, load_runtime, show_json, show_table
from b24offline.delivery import run_of_dead_letter
from b24offline.errors import UnknownPortal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from b24offline.delivery import DeadLetterQueue
    from b24offline.runtime import Runtime
    from b24offline.store import DeadLetter, Selection

PER_SECOND: Final = 5
"""Redriven runs that become due in a second: fewer than the sweeps can start, so that new events go first."""
_ADOPTED: Final = "If the portal still has its record, the record is adopted within minutes and runs again"
_LOCAL: Final = {
    "redriven": "is unknown to the ledger and has no record on the portal. Run its object again: b24offline trigger",
    "dropped": "was ended; it was unknown to the ledger",
}
_UNKNOWN: Final = {
    "redriven": f"is unknown to the ledger. {_ADOPTED}",
    "dropped": f"was ended; it was unknown to the ledger. {_ADOPTED}",
}


@click.group("dead-letter")
def dead_letter() -> None:
    """List, redrive, drop and export dead letters.

    A dead letter is an event that is no longer retried and waits for a person to decide.
    """


@dead_letter.command("list")
@filters
@click.option("--ended", is_flag=True, help="List ended dead letters instead of open ones.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="Show at most this many; 0 shows all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_dead_letters(selection: Selection, ended: bool, limit: int, as_json: bool) -> None:
    """List dead letters."""
    runtime = load_runtime()
    dead_letters = runtime.store.dead_letters.select(selection, ended=ended)
    found = list(islice(dead_letters, min(limit, sys.maxsize) or None))
    if as_json:
        show_json([facts(runtime, dead_letter) for dead_letter in found])
    elif found:
        show_dead_letters(runtime, found)
    else:
        click.echo("No dead letters.")
    if more := sum(1 for _ in dead_letters):
        click.echo(f"{more} more; --limit 0 shows all.", err=as_json)


@dead_letter.command()
@click.argument("dead_letter_id", metavar="ID", type=click.IntRange(1, sys.maxsize))
@click.option("--payload", is_flag=True, help="Include what the portal sent. It may be personal data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(dead_letter_id: int, payload: bool, as_json: bool) -> None:
    """Show one dead letter."""
    runtime = load_runtime()
    dead_letter = runtime.store.dead_letters.get(dead_letter_id)
    known = facts(runtime, dead_letter) | {"error": dead_letter.payload.get("error", "")}
    if payload:
        known["payload"] = {name: value for name, value in dead_letter.payload.items() if name != "error"}
    if as_json:
        show_json(known)
    else:
        rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in known.items()]
        show_table(("field", "value"), [row for row in rows if row[1] not in {"", "null"}])


@dead_letter.command(cls=Audited)
@changing("redriven")
def redrive(runtime: Runtime, dead_letters: Sequence[DeadLetter], as_json: bool) -> None:
    """Run dead letters again, with a full set of attempts.

    A dead letter ends when its event succeeds.
    """
    reply: dict[int, str] = {}
    started = 0
    for dead_letter, queue in _each(runtime, dead_letters, "redriving", quiet=as_json):
        delay = started / PER_SECOND * runtime.config.time_scale
        state = queue.redrive(run_of_dead_letter(dead_letter), delay_seconds=delay) if queue else "unknown"
        started += state == "redriven"
        reply[dead_letter.id] = state
    if started:
        runtime.ask_for_sweep()
    _conclude(dead_letters, reply, "redriven", "The workers start them now, five a second.", as_json=as_json)


@dead_letter.command(cls=Audited)
@changing("dropped")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def drop(runtime: Runtime, dead_letters: Sequence[DeadLetter], as_json: bool, yes: bool) -> None:
    """Drop dead letters: delete their events from the portal's queue.

    The events never run: their records are acknowledged, and the dead letters end.
    """
    if dead_letters and not yes:
        if as_json:
            raise Refusal(
                "--json cannot ask for confirmation: add --yes, or --dry-run to look first. Nothing was dropped."
            )
        click.confirm(f"Drop {len(dead_letters)} dead letters? Their changes will not be processed.", abort=True)
    who = operator()
    reply: dict[int, str] = {}
    for dead_letter, queue in _each(runtime, dead_letters, "dropping", quiet=as_json):
        state = queue.drop(run_of_dead_letter(dead_letter), who) if queue else "unknown"
        if state in {"dropped", "unknown"}:
            # The ledger first: if this process dies in between, settling ends the dead letter.
            runtime.store.dead_letters.end(dead_letter.id, f"dropped by {who}")
        reply[dead_letter.id] = state
    _conclude(dead_letters, reply, "dropped", "The workers acknowledge their records.", as_json=as_json)


@dead_letter.command(cls=Audited)
@filters
@click.option("--to", "path", type=click.Path(dir_okay=False), required=True, help="File to create; it must not exist.")
def export(selection: Selection, path: str) -> None:
    """Write open dead letters with their payload to a file.

    The file has one JSON object a line, and only its owner can read it.
    """
    runtime = load_runtime()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Refusal(f"{path} cannot be created: {error.strerror}. Nothing was exported.") from None
    number = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for dead_letter in runtime.store.dead_letters.select(selection):
                file.write(json.dumps({**facts(runtime, dead_letter), "payload": dead_letter.payload}) + "\n")
                number += 1
    except BaseException as error:
        Path(path).unlink()  # an incomplete file would be taken for a complete one
        if not isinstance(error, OSError):
            raise
        raise click.ClickException(f"{path} cannot be written: {error.strerror}. Nothing was exported.") from None
    click.echo(f"{number} dead letters were written to {path}. They may hold personal data.")


def _each(
    runtime: Runtime, dead_letters: Sequence[DeadLetter], what: str, *, quiet: bool
) -> Iterator[tuple[DeadLetter, DeadLetterQueue | None]]:
    """Yield each dead letter with the queue of its portal, None when that was deleted; show the progress."""
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    for dead_letter in track(dead_letters, what, console=console, disable=hidden, transient=True):
        try:
            yield dead_letter, runtime.services(dead_letter.portal).dead_letter_queue
        except UnknownPortal:
            yield dead_letter, None


def _conclude(
    dead_letters: Sequence[DeadLetter], reply: dict[int, str], done: str, following: str, *, as_json: bool
) -> None:
    """Print which dead letters were not redriven or dropped, and why; exit with status 1 if there are any."""
    others = {number: state for number, state in reply.items() if state != done}
    local = {dead_letter.id for dead_letter in dead_letters if dead_letter.record_id < 0}
    if as_json:
        show_json({"dead_letters": reply})
    else:
        for number, state in others.items():
            unknown = (_LOCAL if number in local else _UNKNOWN)[done]
            why = unknown if state == "unknown" else f"was not {done}: its run is {STATE_WORDS.get(state, state)}"
            click.echo(f"Dead letter {number} {why}.", err=True)
        if not reply:
            click.echo(f"No open dead letter matches. Nothing was {done}.")
        if number := len(reply) - len(others):
            click.echo(f"{number} {done}. {following}")
    if others:
        if as_json:
            sys.exit(1)
        raise click.ClickException(f"{len(others)} of {len(reply)} dead letters were not {done}.")
