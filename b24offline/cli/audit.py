"""`b24offline audit`: what operators did."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from b24offline.cli.output import load_runtime, show_json, show_table


@click.command()
@click.option("--portal", default="", help="Name of the portal.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Show at most this many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def audit(portal: str, limit: int, as_json: bool) -> None:
    """Show which commands operators ran, the newest last: who, when, on which portal."""
    lines = load_runtime().store.audit.last(min(limit, sys.maxsize), portal=portal)
    if as_json:
        show_json([asdict(line) for line in lines])
    else:
        cells = [(f"{line.at:%Y-%m-%d %H:%M:%S}", line.who, line.portal, line.command, line.outcome) for line in lines]
        show_table(("at (UTC)", "who", "portal", "command", "outcome"), cells)
