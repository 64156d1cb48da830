"""The tables at the end of a fault run, and the same as JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.faults import sabotage
from tests.faults.row import Result, Row

Missing = tuple[int, str]
"""Number and name of a row that was not played."""
NUMBERS: Final = sorted(({*range(1, 58)} - {55}) | {59, 60})
"""A list of orphans cannot outlast its lease any more (55): reads are given up sooner. A test holds the check."""
TITLES: Final = {"valkey": "Valkey", "rabbitmq": "RabbitMQ"}
COUNTED: Final = ("lost", "stale", "unfinished", "destroyed", "stuck", "overlap", "flooded")
COLUMNS: Final = ("row", "fault", "seed", "injected", "changes", *COUNTED, "repeats", "leaks", "recovery")


def missing(known: Sequence[Row]) -> list[Missing]:
    """Return what a full run does not show: numbers without a row, guards that no row switches off."""
    numbers = [(number, "nobody has written it") for number in NUMBERS if number not in {row.number for row in known}]
    off = {row.plan.variables.get(sabotage.VARIABLE) for row in known}
    guards = [(40, f"without {guard}: nobody has written it") for guard in sabotage.GUARDS if guard not in off]
    return sorted([*numbers, *guards])


def say(console: Console, result: Result, *, of: int, over: int) -> None:
    """One line as soon as a row is over, and what was wrong with it."""
    colour, word = ("green", "green") if result.green else ("red", "RED")
    recovery = "" if result.recovery_seconds is None else f", recovered in {result.recovery_seconds:g} s"
    verdict = f"[{colour}]{word}[/] in {result.seconds:.0f} s{recovery}, {result.verdict.repeats} repeats"
    place = f"{over}/{of} {result.number} {result.name} ({result.broker})"
    console.print(f"{escape(place)}: {verdict}", soft_wrap=True)
    for figure in result.measured:
        console.print(f"    {escape(figure)}", soft_wrap=True)
    for problem in result.problems:
        console.print(f"    {escape(problem)}", soft_wrap=True)
    if result.logs:
        console.print(f"    logs: {result.logs}", soft_wrap=True)


def _cells(one: Result) -> list[str]:
    """A row of both tables, in the order of `COLUMNS`."""
    counts = [len(getattr(one.verdict, what)) for what in COUNTED]
    recovery = "" if one.recovery_seconds is None else f"{one.recovery_seconds:.1f} s"
    numbers = [one.seed, len(one.injected), one.changes, *counts, one.verdict.repeats, len(one.leaks), recovery]
    return [str(one.number), one.name, *map(str, numbers)]


def table(console: Console, results: Sequence[Result], missing: Sequence[Missing]) -> None:
    """All rows; those that were not played are shown as such."""
    shown = Table(title="Faults")
    for name in ("broker", *COLUMNS, "result"):
        shown.add_column(name, justify="left" if name in ("fault", "broker") else "right")
    for one in results:
        shown.add_row(one.broker, *_cells(one), "[green]green[/]" if one.green else "[red]RED[/]")
    for number, name in missing:
        shown.add_row("", str(number), name, *[""] * (len(COLUMNS) - 2), "[yellow]missing[/]")
    console.print(shown)
    green = sum(one.green for one in results)
    console.print(f"{green} of {len(results)} green, {len(missing)} missing")


def write_markdown(path: Path, results: Sequence[Result], missing: Sequence[Missing]) -> None:
    """The tables for the documentation, one for each broker."""
    lines: list[str] = []
    for broker in sorted({one.broker for one in results}, reverse=True):
        lines += [f"### On {TITLES[broker]}", "", f"| {' | '.join(COLUMNS)} | |"]
        lines.append("|---" * 2 + "|---:" * (len(COLUMNS) - 2) + "|---|")
        lines += [
            f"| {' | '.join(_cells(one))} | {'green' if one.green else '**red**'} |"
            for one in results
            if one.broker == broker
        ]
        lines.append("")
    lines += [f"- {number} {name}: missing" for number, name in missing]
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def write_json(path: Path, results: Iterable[Result], missing: Sequence[Missing], *, seed: int) -> None:
    """Everything that was found."""
    reply = {"seed": seed, "rows": [one.as_json() for one in results], "missing": list(missing)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(reply, indent=1) + "\n", encoding="utf-8")
