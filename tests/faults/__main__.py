"""Runs the fault rows: ``python -m tests.faults --row 13 --row 26``. Exit status 0 only when every row is green."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from tests.faults import report, rows_mix
from tests.faults.playing import ON_RABBITMQ, Job, known_rows, lacking, play_all
from tests.faults.row import Result, Row

LONG_SECONDS = 200.0
"""Rows that may take longer to drain begin first, so that no core is idle at the end."""


@click.command(context_settings={"show_default": True})
@click.option("--row", "wanted", multiple=True, help="Only rows of this number, or with this text in their name.")
@click.option(
    "--broker", type=click.Choice(["valkey", "rabbitmq", "both"]), default="both", help="The broker under test."
)
@click.option("--seed", default=1, help="Of objects, traffic and the random mix.")
@click.option("--minutes", default=1.0, help="How long the random mix lasts.")
@click.option("--jobs", default=3, type=click.IntRange(1, 16), help="Rows that are played at a time.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), default=Path(".data/fault-results.json"), show_default=True
)
@click.option("--markdown", type=click.Path(path_type=Path), help="Where the tables are written as Markdown too.")
@click.option("--logs", type=click.Path(path_type=Path), help="Where logs of failed rows are kept.")
def main(
    wanted: tuple[str, ...],
    broker: str,
    seed: int,
    minutes: float,
    jobs: int,
    json_file: Path,
    markdown: Path | None,
    logs: Path | None,
) -> None:
    """Kill, break and repeat what a deployment stands on, and check that no change is lost.

    With both brokers every row is played on Valkey, and those whose fault reaches the broker on RabbitMQ too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=200 if not sys.stdout.isatty() else None)
    os.environ[rows_mix.MINUTES] = str(minutes)
    kept = logs or Path(tempfile.gettempdir()) / "b24offline-fault-logs"
    known = known_rows()
    chosen = [
        Job(index, kind, seed, kept)
        for index, row in enumerate(known)
        for kind in ("valkey", "rabbitmq")
        if _is_wanted(row, wanted) and _is_played_on(row, kind, broker)
    ]
    if not chosen:
        raise click.ClickException(
            f"No row is called {', '.join(wanted)} for this broker; docs/faults.md lists them all"
        )
    if packages := lacking([(known[job.index], job.broker) for job in chosen]):
        click.echo(f"These rows need what is not here: apt-get install {' '.join(packages)}", err=True)
        sys.exit(2)
    chosen.sort(key=lambda job: known[job.index].drain_seconds < LONG_SECONDS)
    missing = [] if wanted else report.missing(known)
    results: list[Result] = []
    for result in play_all(chosen, at_a_time=jobs):
        results.append(result)
        results.sort(key=lambda one: (one.broker != "valkey", one.number))
        report.say(console, result, of=len(chosen), over=len(results))
        report.write_json(json_file, results, missing, seed=seed)
    report.table(console, results, missing)
    model_holds = bool(wanted) or subprocess.run([sys.executable, "-m", "tests.model"], check=False).returncode == 0
    if markdown is not None:
        report.write_markdown(markdown, results, missing)
    green = results and not missing and model_holds and all(one.green for one in results)
    sys.exit(0 if green else 1)


def _is_wanted(row: Row, wanted: tuple[str, ...]) -> bool:
    texts = [text.strip() for one in wanted for text in one.split(",")]
    return not texts or any(text == str(row.number) or (not text.isdigit() and text in row.title) for text in texts)


def _is_played_on(row: Row, kind: str, asked: str) -> bool:
    if asked == "both":
        return kind in row.brokers and (kind == "valkey" or row.number in ON_RABBITMQ)
    return kind == asked and kind in row.brokers


if __name__ == "__main__":
    main()
