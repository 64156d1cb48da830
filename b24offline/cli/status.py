"""`b24offline status`: the state of every portal, and who must act."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from b24offline.cli.output import as_sentences, load_runtime, show_json, show_table, span
from b24offline.monitoring import PortalStatus, portal_statuses

if TYPE_CHECKING:
    from b24offline.monitoring import HealthSample


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def status(as_json: bool) -> None:
    """Show the state of every portal. Exit status 1: somebody must act.

    Reads the database and the ledger, never a portal.
    """
    runtime = load_runtime()
    portals = portal_statuses(runtime.store, runtime.redis, runtime.config)
    if as_json:
        show_json([one.as_json() for one in portals])
    elif not portals:
        click.echo("No portals. Add one with: b24offline portal add NAME --url ...")
    else:
        show_table(TITLES, [row(one) for one in portals])
        for one in portals:
            for issue in one.issues:
                click.echo(f"{one.portal.name}: the {issue.actor} must act ({issue.code}): {issue.message}")
    if any(one.issues for one in portals):
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


def row(one: PortalStatus) -> tuple[str, ...]:
    """Return one line of the table."""
    portal = one.portal
    cells = _ledger_cells(one.sample)
    return (portal.name, portal.desired_state, portal.state, *cells, str(one.dead_letters), portal.state_reason[:80])


def _ledger_cells(sample: HealthSample | None) -> tuple[str, ...]:
    if sample is None:
        return ("?",) * 6
    oldest = max([*sample.open_batches.values(), sample.oldest_reserved_seconds], default=0.0)
    return (
        str(len(sample.open_batches)),
        span(oldest) if oldest else "-",
        str(sample.overdue_runs),
        _next_poll(sample.next_poll_seconds),
        str(sample.counters.get("events_acknowledged", 0)),
        str(sample.counters.get("runs_failed", 0)),
    )


def _next_poll(planned: float | None) -> str:
    if planned is None:
        return "-"
    if planned > 0:
        return span(planned)
    return "now" if planned > -1 else f"{span(-planned)} late"
