"""`b24offline status`: how every portal stands, and who must act."""

from __future__ import annotations

import sys

import click

from b24offline.command_line import as_sentences, runtime, show_json, show_table
from b24offline.overview import LedgerView, Overview, overviews


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def status(as_json: bool) -> None:
    """Show how every portal stands. Exit status 1: a person must act.

    Asks the store and the ledger only, never a portal.
    """
    found = overviews(runtime())
    if as_json:
        show_json([one.as_json() for one in found])
    elif not found:
        click.echo("No portal yet. Add one with: b24offline portal add NAME --url ...")
    else:
        show_table(TITLES, [row(one) for one in found])
        for one in found:
            for need in one.needs:
                click.echo(f"{one.portal.name}: the {need.actor} must act: {need.what}")
    if any(one.needs for one in found):
        sys.exit(1)


TITLES = ("portal", "wish", "state", "open", "oldest", "overdue", "next poll", "acknowledged", "failed", "dead", "why")


def row(one: Overview) -> tuple[str, ...]:
    """One line of the table."""
    portal = one.portal
    return (portal.name, portal.wish, portal.state, *_ledger_cells(one.ledger), str(one.dead_letters), _why(one))


def seconds(value: float) -> str:
    """A span for people: `45 s`, `12 min`, `3.5 h`."""
    if abs(value) < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if abs(value) < 7200 else f"{value / 3600:.1f} h"


def _ledger_cells(ledger: LedgerView | None) -> tuple[str, ...]:
    if ledger is None:
        return ("?",) * 6
    oldest = max([*ledger.open_batches.values(), ledger.signs.oldest_reserved_seconds], default=0.0)
    planned = ledger.next_poll_seconds
    return (
        str(len(ledger.open_batches)),
        seconds(oldest) if oldest else "-",
        str(ledger.overdue_runs),
        "-"
        if planned is None
        else "now"
        if -1 < planned <= 0
        else f"{seconds(-planned)} late"
        if planned < 0
        else seconds(planned),
        str(ledger.counters.get("events_acknowledged", 0)),
        str(ledger.counters.get("runs_failed", 0)),
    )


def _why(one: Overview) -> str:
    return one.portal.state_reason[:80]
