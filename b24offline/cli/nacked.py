"""`b24offline nacked`: failed events, with their ages."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from b24offline.cli.output import load_runtime, show_json, show_table, span
from b24offline.ledger import PLACES, error_lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.ledger import Waiting


@click.command()
@click.option("--portal", default="", help="Name of the portal.")
@click.option("--records", is_flag=True, help="List each event.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def nacked(portal: str, records: bool, as_json: bool) -> None:
    """Show failed events: nacked on the portal, retrying, or dead-lettered."""
    runtime = load_runtime()
    portals = runtime.store.portals
    names = [portals.get(portal).name] if portal else [found.name for found in portals.list() if found.served]
    lanes = {name: list(error_lane(runtime.redis, runtime.services(name).ledger)) for name in names}
    events = [event for lane in lanes.values() for event in lane]
    if as_json:
        show_json([asdict(event) for event in events])
    elif records:
        show_table(
            ("portal", "place", "record", "event", "object", "pipeline", "failures", "reason", "age", "next"),
            [_record_cells(event) for event in events],
        )
    else:
        titles = ("portal", *(title for place in PLACES for title in (place, "oldest")))
        show_table(titles, [_summary(name, lane) for name, lane in lanes.items()])


def _record_cells(event: Waiting) -> tuple[str, ...]:
    following = "-" if event.next_seconds is None else span(max(0.0, event.next_seconds))
    cells = (event.portal, event.place, str(event.record_id), event.event, event.object, event.pipeline)
    return (*cells, str(event.failures), event.reason, span(event.age_seconds), following)


def _summary(portal: str, lane: Sequence[Waiting]) -> tuple[str, ...]:
    cells = [portal]
    for place in PLACES:
        ages = [event.age_seconds for event in lane if event.place == place]
        cells += [str(len(ages)), span(max(ages)) if ages else "-"]
    return tuple(cells)
