"""`b24offline doctor`: whether this deployment can work, and what to do where it cannot."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from b24offline.cli.check_view import show_checks
from b24offline.cli.output import show_json
from b24offline.doctor import CheckState, Extent, examine


@click.command()
@click.option("--portal", default="", help="Name of the portal; all by default, at most 20.")
@click.option("--offline", is_flag=True, help="Call no portal.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0, max=3600),
    default=0.0,
    help="Watch each connector for this many seconds, to find a second deployment.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(portal: str, offline: bool, watch: float, as_json: bool) -> None:
    """Check configuration, servers, workers, pipelines and portals: a line for each check, with what to do.

    It can run at any time, also before the first start, and changes nothing on a portal. Exit status 1 means that a
    check failed; warnings alone give 0.
    """
    bad = False
    found = []
    for check in examine(Extent(portal=portal, call=not offline, watch_seconds=watch)):
        bad = bad or check.state is CheckState.FAILED
        found.append(check)
        if not as_json:
            show_checks([check])
    if as_json:
        show_json([asdict(check) for check in found])
    if bad:
        sys.exit(1)
