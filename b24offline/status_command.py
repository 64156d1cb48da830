"""`b24offline status`: the state of every portal, and who must act."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from b24offline.command_line import as_sentences, runtime, show_json, show_table
from b24offline.overview import Overview, overviews

if TYPE_CHECKING:
    from b24offline.health_sample import HealthSample


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def status(as_json: bool) -> None:
    """Show the state of every portal. Exit status 1: somebody must act.

    Reads the database and the ledger, never a portal.
    """
    here = runtime()
    found = overviews(here.store, here.redis, here.config)
    if as_json:
        show_json([one.as_json() for one in found])
    elif not found:
        click.echo("No portals. Add one with: b24offline portal add NAME --url ...")
    else:
        show_table(TITLES, [row(one) for one in found])
        for one in found:
            for issue in one.issues:
                click.echo(f"{one.portal.name}: the {issue.actor} must act ({issue.code}): {issue.message}")
    if any(one.issues for one in found):
        sys.exit(1)


TITLES = (
    "portal",
    "desired",
    "state",
    "open",
    "oldest",
    "overdue",
    "next poll",
    "acknowledged",
    "failed",
    "dead letters",
    "reason",
)


def row(one: Overview) -> tuple[str, ...]:
    """Return one line of the table."""
    portal = one.portal
    cells = _ledger_cells(one.sample)
    return (portal.name, portal.wish, portal.state, *cells, str(one.dead_letters), portal.state_reason[:80])


def seconds(value: float) -> str:
    """Return a span for people: `45 s`, `12 min`, `3.5 h`."""
    if abs(value) < 120:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if abs(value) < 7200 else f"{value / 3600:.1f} h"


def _ledger_cells(sample: HealthSample | None) -> tuple[str, ...]:
    if sample is None:
        return ("?",) * 6
    oldest = max([*sample.open_batches.values(), sample.oldest_reserved_seconds], default=0.0)
    return (
        str(len(sample.open_batches)),
        seconds(oldest) if oldest else "-",
        str(sample.overdue_runs),
        _next_poll(sample.next_poll_seconds),
        str(sample.counters.get("events_acknowledged", 0)),
        str(sample.counters.get("runs_failed", 0)),
    )


def _next_poll(planned: float | None) -> str:
    if planned is None:
        return "-"
    if planned > 0:
        return seconds(planned)
    return "now" if planned > -1 else f"{seconds(-planned)} late"
