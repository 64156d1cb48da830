"""`b24offline status`: the state of every portal, and who must act."""

from __future__ import annotations

import sys

import click

from b24offline.cli.output import load_runtime, show_json, show_table
from b24offline.cli.portal_view import columns
from b24offline.monitoring import portal_statuses


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(as_json: bool) -> None:
    """Show the state of every portal, and who must act.

    Exit status 1 means that somebody must act. No portal is called.
    """
    runtime = load_runtime()
    statuses = portal_statuses(runtime.store, runtime.redis, runtime.config)
    if as_json:
        show_json([found.as_json() for found in statuses])
    elif not statuses:
        runtime.redis.ping()  # nothing else would tell that nothing can be polled
        click.echo("No portals. Connect one: b24offline auth NAME.bitrix24.com")
    else:
        show_table(*columns(statuses))
        for found in statuses:
            for issue in found.issues:
                click.echo(f"{found.portal.name}: the {issue.actor} must act ({issue.code}): {issue.message}")
    if any(found.issues for found in statuses):
        sys.exit(1)
