"""`b24offline nacked`: failed events, when they run next, and how to let them run now."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from b24offline.cli.audited import Audited
from b24offline.cli.output import Refusal, load_runtime, show_json, show_table, span
from b24offline.ledger import PLACES, error_lane, hurry_nacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from b24offline.ledger import Waiting
    from b24offline.runtime import Runtime

TITLES: Final = ("portal", "place", "record", "event", "object", "pipeline", "failures", "reason", "age", "next")


@click.group(invoke_without_command=True)
@click.option("--portal", default="", help="Name of the portal.")
@click.option("--counts", is_flag=True, help="Show only counts and ages.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, help="Show at most this many; 0 shows all."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def nacked(ctx: click.Context, portal: str, counts: bool, limit: int, as_json: bool) -> None:
    """Show failed events: nacked on the portal, retrying, or dead-lettered."""
    if ctx.invoked_subcommand:
        return
    runtime = load_runtime()
    lanes = {name: _lane(runtime, name) for name in _portals(runtime, portal)}
    events = [event for lane in lanes.values() for event in lane]
    if as_json:
        show_json([asdict(event) for event in events])
    elif counts:
        titles = ("portal", *(title for place in PLACES for title in (place, "oldest")))
        show_table(titles, [_summary(name, lane) for name, lane in lanes.items()])
    elif events:
        show_table(TITLES, [_record_cells(event) for event in islice(events, limit or None)])
        if limit and len(events) > limit:
            click.echo(f"{len(events) - limit} more; --limit 0 shows all, --counts how many of each.")
    else:
        click.echo("No failed events.")


@nacked.command(cls=Audited)
@click.argument("records", metavar="RECORD...", type=int, nargs=-1)
@click.option("--portal", default="", help="Name of the portal; required if there are several.")
@click.option("--all", "everything", is_flag=True, help="Every nacked and retrying event of the portal.")
def redrive(records: tuple[int, ...], portal: str, everything: bool) -> None:
    """Run nacked and retrying events now, instead of after their wait.

    RECORD is a record number from the list. For dead-lettered events use `dead-letter redrive`.
    """
    if bool(records) == everything:
        raise Refusal("Name records by number, or use --all. Nothing was changed.")
    runtime = load_runtime()
    names = _portals(runtime, portal)
    if len(names) != 1:
        raise Refusal(f"Choose a portal: --portal {' or '.join(names) or 'NAME'}. Nothing was changed.")
    (name,) = names
    waiting = [event for event in _lane(runtime, name) if event.place != "dead-lettered"]
    if missing := sorted(set(records) - {event.record_id for event in waiting}):
        raise Refusal(f"No nacked or retrying event has record {', '.join(map(str, missing))}. Nothing was changed.")
    services = runtime.services(name)
    done = 0
    for event in waiting:
        if records and event.record_id not in records:
            continue
        if event.place == "nacked":
            hurry_nacked(runtime.redis, services.ledger, event.record_id)
            done += 1
        else:
            done += services.dead_letter_queue.redrive(event.run) == "redriven"
    if done:
        runtime.ask_for_sweep(name)
    click.echo(
        f"{done} redriven. The workers start them now; records nacked less than 200 s ago start after that time."
    )


def _portals(runtime: Runtime, name: str) -> list[str]:
    portals = runtime.store.portals
    return [portals.get(name).name] if name else [found.name for found in portals.list() if found.served]


def _lane(runtime: Runtime, name: str) -> list[Waiting]:
    return list(error_lane(runtime.redis, runtime.services(name).ledger))


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
