"""`b24offline dead-letter`: events that failed for all their attempts, and what a person decides about them.

Commands write into the ledger and the database; the workers' next sweep finds it there. No portal is called.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import track

from b24offline.cli.dead_letter_options import Order, acting, filters
from b24offline.cli.dead_letter_view import STATE_WORDS, facts, show_letters, tell_dry_run
from b24offline.cli.output import as_sentences, failure, load_runtime, refusal, show_json, show_table
from b24offline.delivery import run_of_letter
from b24offline.errors import UnknownPortal
from b24offline.store import Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from b24offline.delivery import Parking
    from b24offline.runtime import Runtime
    from b24offline.store import DeadLetter

PER_SECOND: Final = 5
"""Redriven runs that become due in a second: a part of what the sweeps can start, so that new events go first."""
_ADOPTED: Final = "If the portal still has its record, the record is adopted within minutes and runs again"
_LOCAL: Final = {
    "redriven": "is unknown to the ledger and has no record on the portal. Run its object again: b24offline trigger",
    "dropped": "was ended; the ledger did not know it",
}
_UNKNOWN: Final = {
    "redriven": f"is unknown to the ledger. {_ADOPTED}",
    "dropped": f"was ended; the ledger did not know it. {_ADOPTED}",
}


@click.group("dead-letter")
def dead_letter() -> None:
    """List, redrive, drop and export dead letters.

    A dead letter is an event that failed for all its attempts and waits for a decision.
    """


@dead_letter.command("list")
@filters
@click.option("--ended", is_flag=True, help="Show ended ones instead of open ones.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="Show at most so many; 0: all."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def list_letters(portal: str, event: str, reason: str, older: float, ended: bool, limit: int, as_json: bool) -> None:
    """List dead letters."""
    runtime = load_runtime()
    chosen = Selection((), portal, event, reason, older)
    letters = runtime.store.dead_letters.select(chosen, ended=ended)
    found = list(islice(letters, min(limit, sys.maxsize) or None))
    if as_json:
        show_json([facts(runtime, letter) for letter in found])
    elif found:
        show_letters(runtime, found)
    else:
        click.echo("No dead letters.")
    if more := sum(1 for _ in letters):
        click.echo(f"{more} more; --limit 0 shows all.", err=as_json)


@dead_letter.command()
@click.argument("letter_id", type=click.IntRange(1, sys.maxsize))
@click.option("--payload", is_flag=True, help="Include what the portal sent; it may be personal data.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def show(letter_id: int, payload: bool, as_json: bool) -> None:
    """Show one dead letter."""
    runtime = load_runtime()
    letter = runtime.store.dead_letters.get(letter_id)
    known = facts(runtime, letter)
    if payload:
        known["payload"] = letter.payload
    if as_json:
        show_json(known)
    else:
        rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in known.items()]
        show_table(("field", "value"), [row for row in rows if row[1] not in {"", "null"}])


@dead_letter.command()
@acting
@as_sentences
def redrive(order: Order) -> None:
    """Run dead letters again, with all their attempts. A dead letter ends when its event succeeds."""
    runtime = load_runtime()
    letters = _chosen(runtime, order)
    if order.dry_run:
        tell_dry_run(runtime, letters, "would be redriven", as_json=order.as_json)
        return
    told: dict[int, str] = {}
    started = 0
    for letter in _tracked(letters, "redriving", quiet=order.as_json):
        delay = started / PER_SECOND * runtime.config.time_scale
        parking = _parking(runtime, letter)
        told[letter.id] = parking.redrive(run_of_letter(letter), delay_seconds=delay) if parking else "unknown"
        started += told[letter.id] == "redriven"
    _conclude(letters, told, "redriven", order.as_json)
    if started and not order.as_json:
        click.echo(f"{started} redriven; the workers' next sweep starts them.")


@dead_letter.command()
@acting
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_sentences
def drop(order: Order, yes: bool) -> None:
    """Discard dead letters: their records are acknowledged on the portal, nothing runs."""
    runtime = load_runtime()
    letters = _chosen(runtime, order)
    if order.dry_run:
        tell_dry_run(runtime, letters, "would be dropped", as_json=order.as_json)
        return
    if letters and not yes:
        if order.as_json:
            raise refusal(
                "--json cannot ask for confirmation: add --yes, or --dry-run to look first. Nothing was dropped."
            )
        click.confirm(f"Drop {len(letters)} dead letters? Their changes will not be processed.", abort=True)
    who = _operator()
    told: dict[int, str] = {}
    for letter in _tracked(letters, "dropping", quiet=order.as_json):
        parking = _parking(runtime, letter)
        told[letter.id] = state = parking.drop(run_of_letter(letter), who) if parking else "unknown"
        if state in {"dropped", "unknown"}:
            # The ledger first: a death in between leaves a letter that the settle ends.
            runtime.store.dead_letters.end(letter.id, f"dropped by {who}")
    _conclude(letters, told, "dropped", order.as_json)
    if not order.as_json and (number := list(told.values()).count("dropped")):
        click.echo(f"{number} dropped; the workers acknowledge their records.")


@dead_letter.command()
@filters
@click.option("--to", "path", type=click.Path(dir_okay=False), required=True, help="A file that does not exist yet.")
@as_sentences
def export(portal: str, event: str, reason: str, older: float, path: str | Path) -> None:
    """Write open dead letters with their payload to a file, one JSON object a line, readable by its owner only."""
    runtime = load_runtime()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise refusal(f"{path} cannot be created: {error.strerror}. Nothing was exported.") from None
    number, complete = 0, False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for letter in runtime.store.dead_letters.select(Selection((), portal, event, reason, older)):
                file.write(json.dumps({**facts(runtime, letter), "payload": letter.payload}) + "\n")
                number += 1
        complete = True
    except OSError as error:
        raise failure(f"{path} cannot be written: {error.strerror}. Nothing was exported.") from None
    finally:
        if not complete:
            # Half of the letters would be taken for all of them.
            Path(path).unlink()
    click.echo(f"{number} dead letters were written to {path}; they may hold personal data.")


def _chosen(runtime: Runtime, order: Order) -> list[DeadLetter]:
    selection = order.selection
    if selection.empty != order.everything:
        raise refusal("Name dead letters by number or by filters, or use --all. Nothing was changed.")
    found = list(runtime.store.dead_letters.select(selection))
    missing = sorted(set(selection.ids) - {letter.id for letter in found})
    if missing:
        numbers = ", ".join(map(str, missing))
        raise refusal(f"There is no open dead letter {numbers} with these filters. Nothing was changed.")
    return found


def _parking(runtime: Runtime, letter: DeadLetter) -> Parking | None:
    """Return that of the dead letter's portal; None when the portal was deleted."""
    try:
        return runtime.kit(letter.portal).parking
    except UnknownPortal:
        return None


def _tracked(letters: Sequence[DeadLetter], what: str, *, quiet: bool) -> Iterable[DeadLetter]:
    console = Console(stderr=True)
    return track(letters, what, console=console, disable=quiet or not console.is_terminal, transient=True)


def _conclude(letters: Sequence[DeadLetter], told: dict[int, str], done: str, as_json: bool) -> None:
    """Print what was not done; exit status 1 then."""
    others = {letter: state for letter, state in told.items() if state != done}
    local = {letter.id for letter in letters if letter.record_id < 0}
    if as_json:
        show_json({"dead_letters": told})
    else:
        for letter, state in others.items():
            unknown = (_LOCAL if letter in local else _UNKNOWN)[done]
            why = unknown if state == "unknown" else f"was not {done}: its run is {STATE_WORDS.get(state, state)}"
            click.echo(f"Dead letter {letter} {why}.", err=True)
        if not told:
            click.echo(f"No open dead letter matches; nothing was {done}.")
    if others and as_json:
        sys.exit(1)
    if others:
        raise failure(f"{len(others)} of {len(told)} dead letters were not {done}.")


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
