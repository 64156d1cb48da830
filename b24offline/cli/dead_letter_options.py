"""The options that select dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from b24offline.cli.time_span import parsed_span
from b24offline.store import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

_F = TypeVar("_F", bound="Callable[..., Any]")


def _span(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return parsed_span(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def filters(command: _F) -> _F:
    """Add the options that filter dead letters."""
    for option in (
        click.option("--older-than", "older", callback=_span, default="0s", help="Minimum age: 15m, 12h, 7d."),
        click.option("--reason", default="", help="Beginning of the reason: ValueError."),
        click.option("--event", default="", help="Name of the event: ONCRMDEALUPDATE."),
        click.option("--portal", default="", help="Name of the portal."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Order:
    """Which dead letters a command changes, and how it reports."""

    selection: Selection
    everything: bool
    dry_run: bool
    as_json: bool


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that name dead letters, and pass them to the command as an `Order`."""

    @wraps(command)
    def ordered(
        ids: tuple[int, ...],
        portal: str,
        event: str,
        reason: str,
        older: float,
        everything: bool,
        dry_run: bool,
        as_json: bool,
        **more: Any,
    ) -> None:
        command(Order(Selection(ids, portal, event, reason, older), everything, dry_run, as_json), **more)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),
        click.option("--all", "everything", is_flag=True, help="Every open dead letter."),
        click.argument("ids", type=int, nargs=-1),
    ):
        ordered = option(ordered)
    return filters(ordered)
