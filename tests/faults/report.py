"""The table at the end of a fault run, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.faults.row import Result

Missing = tuple[int, str]
"""Number and name of a row that was not played."""
NOT_YET: Final[tuple[Missing, ...]] = (
    (38, "rolling upgrade with open batches, and rollback"),
    (40, "without: 75 s rule, process-id guard, report of marked records, supersede by greater id, tombstone"),
    (40, "without: quiet after ledger loss, two sightings, poll lease, single flight, durable before use"),
    (44, "two deployments, same connector: takeover is asked for"),
)
"""Rows and variants of rows that nobody has written: shown, so that the table never looks greener than it is."""


def say(console: Console, result: Result) -> None:
    """One line as soon as a row is over, and what was wrong with it."""
    colour, word = ("green", "green") if result.green else ("red", "RED")
    recovery = "" if result.recovery_seconds is None else f", recovered in {result.recovery_seconds:g} s"
    console.print(f"[{colour}]{word}[/] in {result.seconds:.0f} s{recovery}, {result.verdict.repeats} repeats")
    for problem in result.problems:
        console.print(f"    {escape(problem)}", soft_wrap=True)
    if result.logs:
        console.print(f"    logs: {result.logs}", soft_wrap=True)


def table(console: Console, results: Sequence[Result], missing: Sequence[Missing], *, broker: str, seed: int) -> None:
    """All rows; those that nobody has written are shown as such."""
    shown = Table(title=f"Faults on {broker}, seed {seed}")
    for name in ("row", "name", "injected", "changes", "lost", "stale", "unfinished", "destroyed", "stuck", "overlap"):
        shown.add_column(name, justify="left" if name in ("name", "injected") else "right")
    for name in ("repeats", "leaks", "recovery s", "result"):
        shown.add_column(name, justify="right")
    for one in results:
        verdict = one.verdict
        shown.add_row(
            str(one.row.number),
            one.row.name,
            str(len(one.injected)),
            str(one.changes),
            *(str(len(getattr(verdict, what))) for what in ("lost", "stale", "unfinished", "destroyed", "stuck")),
            str(len(verdict.overlap)),
            str(verdict.repeats),
            str(len(one.leaks)),
            "" if one.recovery_seconds is None else f"{one.recovery_seconds:.1f}",
            "[green]green[/]" if one.green else "[red]RED[/]",
        )
    for number, name in missing:
        shown.add_row(str(number), name, *[""] * 11, "[yellow]not yet[/]")
    console.print(shown)
    green = sum(one.green for one in results)
    console.print(f"{green} of {len(results)} green, {len(missing)} not yet")


def write_markdown(path: Path, results: Iterable[Result], missing: Sequence[Missing], *, heading: str) -> None:
    """The table for the documentation."""
    numbers = ("lost", "stale", "unfinished", "destroyed", "stuck", "overlap")
    lines = [f"### {heading}", "", f"| row | fault | changes | {' | '.join(numbers)} | repeats | leaks | recovery | |"]
    lines.append("|---" * 2 + "|---:" * 10 + "|---|")
    for one in results:
        counts = [len(getattr(one.verdict, what)) for what in numbers]
        recovery = "" if one.recovery_seconds is None else f"{one.recovery_seconds:.1f} s"
        values = [one.row.number, one.row.name, one.changes, *counts, one.verdict.repeats, len(one.leaks), recovery]
        lines.append(f"| {' | '.join(str(value) for value in values)} | {'green' if one.green else '**red**'} |")
    lines += [f"| {number} | {name} |{' |' * 10} not yet |" for number, name in missing]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_json(path: Path, results: Iterable[Result], missing: Sequence[Missing], *, broker: str, seed: int) -> None:
    """Everything that was found."""
    rows = [one.as_json() for one in results]
    told = {"broker": broker, "seed": seed, "rows": rows, "not_yet": list(missing)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
