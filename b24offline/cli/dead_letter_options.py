"""The options that say which dead letters a command is about."""

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
    """Add the options that select dead letters by what they are like."""
    for option in (
        click.option("--older-than", "older", callback=_span, default="0s", help="At least this old: 15m, 12h, 7d."),
        click.option("--reason", default="", help="How the reason begins: ValueError."),
        click.option("--event", default="", help="Name of the event: ONCRMDEALUPDATE."),
        click.option("--portal", default="", help="Name of the portal."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Order:
    """Which dead letters a command changes, and how it answers."""

    selection: Selection
    everything: bool
    dry_run: bool
    as_json: bool


def acting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an `Order` made of the options that name dead letters."""

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
        click.option("--json", "as_json", is_flag=True, help="For programs."),
        click.option("--dry-run", is_flag=True, help="Only show what would be done."),
        click.option("--all", "everything", is_flag=True, help="Every open dead letter."),
        click.argument("ids", type=int, nargs=-1),
    ):
        ordered = option(ordered)
    return filters(ordered)
