"""How checks are shown: a line each, with the remedy below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from b24offline.doctor import Check, CheckState

if TYPE_CHECKING:
    from collections.abc import Iterable

_COLOURS: Final = {CheckState.OK: "green", CheckState.WARNING: "yellow", CheckState.FAILED: "red"}


def show_checks(checks: Iterable[Check]) -> None:
    """Print checks, for people; colours only on a terminal."""
    for check in checks:
        state = click.style(f"{check.state:<8}", fg=_COLOURS.get(check.state))
        subject = f"{check.portal}: {check.name}" if check.portal else check.name
        click.echo(f"{state} {subject}: {check.finding}")
        if check.remedy:
            click.echo(f"         -> {check.remedy}")
