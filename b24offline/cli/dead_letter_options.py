"""The options that select dead letters, and what `redrive` and `drop` share."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from b24offline.cli.dead_letter_view import show_dry_run
from b24offline.cli.output import Refusal, load_runtime
from b24offline.cli.time_span import parsed_span
from b24offline.store import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.runtime import Runtime
    from b24offline.store import DeadLetter


def _span(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return parsed_span(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that filter dead letters, and pass them to the command as a `Selection`."""

    @wraps(command)
    def filtered(portal: str, event: str, reason: str, older: float, ids: tuple[int, ...] = (), **more: Any) -> None:
        command(Selection(ids, portal, event, reason, older), **more)

    for option in (
        click.option(
            "--older-than", "older", callback=_span, default="0s", help="Minimum age, such as 15m, 12h or 7d."
        ),
        click.option("--reason", default="", help="Beginning of the reason, such as ValueError."),
        click.option("--event", default="", help="Name of the event, such as ONCRMDEALUPDATE."),
        click.option("--portal", default="", help="Name of the portal."),
    ):
        filtered = option(filtered)
    return filtered


def changing(done: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that name dead letters to be ``done``, and pass runtime and dead letters to the command.

    A dry run shows them instead.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def changed(selection: Selection, everything: bool, dry_run: bool, as_json: bool, **more: Any) -> None:
            if selection.empty != everything:
                raise Refusal("Name dead letters by number or by filters, or use --all. Nothing was changed.")
            runtime = load_runtime()
            dead_letters = _chosen(runtime, selection)
            if dry_run:
                show_dry_run(runtime, dead_letters, f"would be {done}", as_json=as_json)
            else:
                command(runtime, dead_letters, as_json=as_json, **more)

        for option in (
            click.option("--json", "as_json", is_flag=True, help="Print JSON."),
            click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
            click.option("--all", "everything", is_flag=True, help="Every open dead letter."),
            click.argument("ids", type=int, nargs=-1),
        ):
            changed = option(changed)
        return filters(changed)

    return decorated


def _chosen(runtime: Runtime, selection: Selection) -> list[DeadLetter]:
    found = list(runtime.store.dead_letters.select(selection))
    if missing := sorted(set(selection.ids) - {dead_letter.id for dead_letter in found}):
        numbers = ", ".join(map(str, missing))
        raise Refusal(f"There is no open dead letter {numbers} with these filters. Nothing was changed.")
    return found
