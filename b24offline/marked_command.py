"""`b24offline marked`: what failed and waits in the error lane, with its age."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from b24offline.command_line import as_sentences, runtime, show_json, show_table
from b24offline.error_lane import error_lane
from b24offline.status_command import seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.error_lane import Waiting


@click.command()
@click.option("--portal", default="", help="Name of the portal.")
@click.option("--records", is_flag=True, help="Each of them.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def marked(portal: str, records: bool, as_json: bool) -> None:
    """Show what failed and waits: marked on the portal, held to run again, or parked."""
    here = runtime()
    portals = [here.store.portal(portal)] if portal else [one for one in here.store.portals() if one.served]
    lanes = {one.name: list(error_lane(here.redis, here.kit(one.name).ledger)) for one in portals}
    found = [row for rows in lanes.values() for row in rows]
    if as_json:
        show_json([row.as_json() for row in found])
    elif records:
        show_table(
            ("portal", "place", "record", "event", "object", "pipeline", "failures", "reason", "age", "next"),
            [_record_cells(row) for row in found],
        )
    else:
        titles = ("portal", "marked", "oldest", "held", "oldest", "parked", "oldest")
        show_table(titles, [_summary(name, rows) for name, rows in lanes.items()])


def _record_cells(row: Waiting) -> tuple[str, ...]:
    following = "-" if row.next_seconds is None else seconds(max(0.0, row.next_seconds))
    cells = (row.portal, row.place, str(row.record_id), row.event, row.object, row.pipeline)
    return (*cells, str(row.failures), row.reason, seconds(row.age_seconds), following)


def _summary(portal: str, rows: Sequence[Waiting]) -> tuple[str, ...]:
    cells = [portal]
    for place in ("marked", "held", "parked"):
        ages = [row.age_seconds for row in rows if row.place == place]
        cells += [str(len(ages)), seconds(max(ages)) if ages else "-"]
    return tuple(cells)
