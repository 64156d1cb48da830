"""Runs the fault rows: ``python -m tests.faults --row 13 --row 26``. Exit status 0 only when every row is green."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from tests.faults import (  # noqa: F401 - modules of rows register them
    brokers,
    report,
    rows_answers,
    rows_brokers,
    rows_clock,
    rows_guards,
    rows_handlers,
    rows_kills,
    rows_neighbours,
    rows_portal,
    rows_races,
)
from tests.faults.row import Result, Row, rows, run
from tests.rabbit import RabbitNode, server_binary


@click.command(context_settings={"show_default": True})
@click.option("--row", "wanted", multiple=True, help="Only rows of this number, or with this text in their name.")
@click.option("--broker", type=click.Choice(["valkey", "rabbitmq"]), default="valkey", help="The broker under test.")
@click.option("--seed", default=1, help="Of objects, traffic and the random mix.")
@click.option("--minutes", default=1.0, help="How long the random mix lasts.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), default=Path(".data/fault-results.json"), show_default=True
)
@click.option("--markdown", type=click.Path(path_type=Path), help="Where the table is written as Markdown too.")
@click.option("--logs", type=click.Path(path_type=Path), help="Where logs of failed rows are kept.")
def main(
    wanted: tuple[str, ...],
    broker: str,
    seed: int,
    minutes: float,
    json_file: Path,
    markdown: Path | None,
    logs: Path | None,
) -> None:
    """Kills, breaks and repeats what a deployment stands on, and checks that no change is lost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=200 if not sys.stdout.isatty() else None)
    chosen = [row for row in rows() if broker in row.brokers and row.playable and _is_wanted(row, wanted)]
    os.environ[rows_races.MINUTES] = str(minutes)
    kept = logs or Path(tempfile.gettempdir()) / "b24offline-fault-logs"
    results: list[Result] = []
    with ExitStack() as servers:
        server: brokers.Broker | None = None
        if broker == "rabbitmq":
            if server_binary() is None:
                raise click.ClickException("RabbitMQ is not installed: apt-get install rabbitmq-server")
            folder = Path(servers.enter_context(tempfile.TemporaryDirectory(prefix="b24offline-rabbit-")))
            server = brokers.RabbitBroker(servers.enter_context(RabbitNode(folder)), folder)
        for row in chosen:
            console.print(f"{row.title} ...", end=" ")
            results.append(run(row, seed=seed, broker=server, keep_logs=kept))
            report.say(console, results[-1])
            report.write_json(json_file, results, [], broker=broker, seed=seed)
    unplayable = [(row.number, f"{row.name}: needs {row.needs}") for row in rows() if not row.playable]
    missing = [] if wanted else sorted([*report.NOT_YET, *unplayable])
    report.table(console, results, missing, broker=broker, seed=seed)
    report.write_json(json_file, results, missing, broker=broker, seed=seed)
    if markdown is not None:
        heading = f"{broker}, seed {seed}: `make faults BROKER={broker} SEED={seed} MINUTES={minutes:g}`"
        report.write_markdown(markdown, results, missing, heading=heading)
    sys.exit(0 if results and not missing and all(one.green for one in results) else 1)


def _is_wanted(row: Row, wanted: tuple[str, ...]) -> bool:
    texts = [text.strip() for one in wanted for text in one.split(",")]
    return not texts or any(text == str(row.number) or (not text.isdigit() and text in row.title) for text in texts)


if __name__ == "__main__":
    main()
