"""`b24offline dead`: what was given up, and what a person decides about it.

Commands write into the ledger and the store; the workers' sweep finds it there. No portal is called.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from redis.exceptions import RedisError
from rich.console import Console
from rich.progress import track

from b24offline.command_line import as_sentences, failure, refusal, runtime, show_json, show_table
from b24offline.errors import UnknownPortal
from b24offline.letter_selection import Selection, parsed_span, selected
from b24offline.parking import run_of_letter
from b24offline.status_command import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from b24offline.dead_letters import DeadLetter
    from b24offline.parking import Parking
    from b24offline.runtime import Runtime

_F = TypeVar("_F", bound="Callable[..., Any]")

PER_SECOND: Final = 5
"""Redriven runs that become due in a second: a part of what the sweeps can start, so that new events go first."""
_BACK: Final = "If the portal still has the record, adoption brings it back within minutes and it runs again"
_LOCAL: Final = {
    "redriven": "is not known to the ledger, and no record stands behind it: b24offline run runs its object again",
    "dropped": "is ended, but not known to the ledger",
}
_UNKNOWN: Final = {
    "redriven": f"is not known to the ledger. {_BACK}",
    "dropped": f"is ended, but not known to the ledger. {_BACK}",
}
_TITLES: Final = ("id", "portal", "record", "event", "object", "pipeline", "reason", "age", "now")


def _span(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return parsed_span(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def _filters(command: _F) -> _F:
    for option in (
        click.option("--older-than", "older", callback=_span, default="0s", help="Parked for at least 15m, 12h, 7d."),
        click.option("--reason", default="", help="How the reason begins: ValueError."),
        click.option("--event", default="", help="Name of the event: ONCRMDEALUPDATE."),
        click.option("--portal", default="", help="Name of the portal."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class _Order:
    """Which letters something is to be done with, and how it is told."""

    selection: Selection
    everything: bool
    dry_run: bool
    as_json: bool


def _acting(command: Callable[..., None]) -> Callable[..., None]:
    """A command that is given an `_Order` for the options that name letters."""

    @wraps(command)
    def ordered(
        ids: tuple[int, ...],
        portal: str,
        event: str,
        reason: str,
        older: float,
        everything: bool,
        dry_run: bool,
        as_json: bool,
        **more: Any,
    ) -> None:
        command(_Order(Selection(ids, portal, event, reason, older), everything, dry_run, as_json), **more)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="For programs."),
        click.option("--dry-run", is_flag=True, help="Only say what would be done."),
        click.option("--all", "everything", is_flag=True, help="Every open letter."),
        click.argument("ids", type=int, nargs=-1),
    ):
        ordered = option(ordered)
    return _filters(ordered)


@click.group()
def dead() -> None:
    """Show, redrive, drop and export dead letters: events that were given up until a person acts."""


@dead.command("list")
@_filters
@click.option("--ended", is_flag=True, help="Those that ended instead.")
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def list_letters(portal: str, event: str, reason: str, older: float, ended: bool, limit: int, as_json: bool) -> None:
    """List dead letters by number."""
    here = runtime()
    chosen = Selection((), portal, event, reason, older)
    letters = selected(here.store, chosen, ended=ended)
    found = list(islice(letters, min(limit, sys.maxsize) or None))
    if as_json:
        show_json([_facts(here, letter) for letter in found])
    elif found:
        show_table(_TITLES, [_row(here, letter) for letter in found])
    else:
        click.echo("No dead letters.")
    if more := sum(1 for _ in letters):
        click.echo(f"{more} more; --limit 0 shows all.", err=as_json)


@dead.command()
@click.argument("letter_id", type=click.IntRange(1, sys.maxsize))
@click.option("--payload", is_flag=True, help="With what the portal sent; it may be personal data.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def show(letter_id: int, payload: bool, as_json: bool) -> None:
    """Show one dead letter."""
    here = runtime()
    letter = here.store.dead_letter(letter_id)
    facts = _facts(here, letter)
    if payload:
        facts["payload"] = letter.payload
    if as_json:
        show_json(facts)
    else:
        rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in facts.items()]
        show_table(("what", "is"), [row for row in rows if row[1] not in {"", "null"}])


@dead.command()
@_acting
@as_sentences
def redrive(order: _Order) -> None:
    """Run dead letters again, with all their chances. A letter ends when its event succeeded."""
    here = runtime()
    letters = _chosen(here, order)
    if order.dry_run:
        _tell(here, letters, "would be redriven", order.as_json)
        return
    told: dict[int, str] = {}
    started = 0
    for letter in _tracked(letters, "redriving", quiet=order.as_json):
        delay = started / PER_SECOND * here.config.time_scale
        parking = _parking(here, letter)
        told[letter.id] = parking.redrive(run_of_letter(letter), delay_seconds=delay) if parking else "unknown"
        started += told[letter.id] == "redriven"
    _conclude(letters, told, "redriven", order.as_json)
    if started and not order.as_json:
        click.echo(f"{started} redriven; the workers' next sweep starts them.")


@dead.command()
@_acting
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_sentences
def drop(order: _Order, yes: bool) -> None:
    """Give dead letters up for good: their records are cleared from the portal, nothing runs."""
    here = runtime()
    letters = _chosen(here, order)
    if order.dry_run:
        _tell(here, letters, "would be dropped", order.as_json)
        return
    if letters and not yes:
        if order.as_json:
            raise refusal("--json asks nothing: add --yes, or --dry-run to look first. Nothing was dropped.")
        click.confirm(f"Drop {len(letters)} events for good? What changed there is not processed.", abort=True)
    who = _operator()
    told: dict[int, str] = {}
    for letter in _tracked(letters, "dropping", quiet=order.as_json):
        parking = _parking(here, letter)
        told[letter.id] = state = parking.drop(run_of_letter(letter), who) if parking else "unknown"
        if state in {"dropped", "unknown"}:
            # The ledger first: a death in between leaves a letter that the settle ends.
            here.store.end_dead_letter(letter.id, f"dropped by {who}")
    _conclude(letters, told, "dropped", order.as_json)
    if not order.as_json and (number := list(told.values()).count("dropped")):
        click.echo(f"{number} dropped; their records are cleared by the next settle.")


@dead.command()
@_filters
@click.option("--to", "path", type=click.Path(dir_okay=False), required=True, help="The file; it must not exist.")
@as_sentences
def export(portal: str, event: str, reason: str, older: float, path: str | Path) -> None:
    """Write open dead letters with their payload to a file, one JSON object a line, readable by its owner only."""
    here = runtime()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise refusal(f"{path} cannot be made: {error.strerror}. Nothing was exported.") from None
    number, complete = 0, False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for letter in selected(here.store, Selection((), portal, event, reason, older)):
                file.write(json.dumps({**_facts(here, letter), "payload": letter.payload}) + "\n")
                number += 1
        complete = True
    except OSError as error:
        raise failure(f"{path} cannot be written: {error.strerror}. Nothing was exported.") from None
    finally:
        if not complete:
            # Half of the letters would be taken for all of them.
            Path(path).unlink()
    click.echo(f"{number} dead letters are in {path}; they may hold personal data.")


def _chosen(here: Runtime, order: _Order) -> list[DeadLetter]:
    selection = order.selection
    if selection.empty != order.everything:
        raise refusal("Name letters by number or by filters, or say --all. Nothing was changed.")
    found = list(selected(here.store, selection))
    missing = sorted(set(selection.ids) - {letter.id for letter in found})
    if missing:
        numbers = ", ".join(map(str, missing))
        raise refusal(f"No open dead letter with these filters has the number {numbers}. Nothing was changed.")
    return found


def _parking(here: Runtime, letter: DeadLetter) -> Parking | None:
    """That of the letter's portal; None when the portal was removed and forgotten."""
    try:
        return here.kit(letter.portal).parking
    except UnknownPortal:
        return None


def _tracked(letters: Sequence[DeadLetter], what: str, *, quiet: bool) -> Iterable[DeadLetter]:
    console = Console(stderr=True)
    return track(letters, what, console=console, disable=quiet or not console.is_terminal, transient=True)


def _tell(here: Runtime, letters: Sequence[DeadLetter], what: str, as_json: bool) -> None:
    if as_json:
        show_json([_facts(here, letter) for letter in letters])
        return
    if letters:
        show_table(_TITLES, [_row(here, letter) for letter in letters])
    click.echo(f"{len(letters)} {what}.")


def _conclude(letters: Sequence[DeadLetter], told: dict[int, str], done: str, as_json: bool) -> None:
    """Says what did not go as asked; exit status 1 then."""
    others = {letter: state for letter, state in told.items() if state != done}
    local = {letter.id for letter in letters if letter.record_id < 0}
    if as_json:
        show_json({"letters": told})
    else:
        for letter, state in others.items():
            unknown = (_LOCAL if letter in local else _UNKNOWN)[done]
            why = unknown if state == "unknown" else f"is not {done}: its run is {state}"
            click.echo(f"Dead letter {letter} {why}.", err=True)
        if not told:
            click.echo(f"No open dead letter fits; nothing was {done}.")
    if others and as_json:
        sys.exit(1)
    if others:
        raise failure(f"{len(others)} of {len(told)} were not {done}.")


def _state(here: Runtime, letter: DeadLetter) -> str:
    """Where its run is now: "unknown" to the ledger, "ended" when nothing is left to do, "?" without a ledger."""
    if letter.ended_at:
        return "ended"
    try:
        return here.kit(letter.portal).parking.state_of(run_of_letter(letter))[0] or "unknown"
    except UnknownPortal:
        return "unknown"
    except RedisError:
        return "?"


def _facts(here: Runtime, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "portal": letter.portal,
        "record_id": letter.record_id,
        "message_id": letter.message_id,
        "event": letter.event_name,
        "object": letter.object,
        "pipeline": letter.pipeline,
        "reason": letter.reason,
        "parked_at": letter.created_at.isoformat(timespec="seconds"),
        "ended_at": letter.ended_at.isoformat(timespec="seconds") if letter.ended_at else None,
        "now": _state(here, letter),
    }


def _row(here: Runtime, letter: DeadLetter) -> tuple[str, ...]:
    facts = _facts(here, letter)
    age = (datetime.now(UTC) - letter.created_at).total_seconds()
    cells = (str(facts[name]) for name in ("id", "portal", "record_id", "event", "object", "pipeline", "reason"))
    return (*cells, seconds(age), str(facts["now"]))


def _operator() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid {os.getuid()}"
