"""How checks are shown: a line each, with the remedy below."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

import click

from b24offline.cli.output import terminal_columns
from b24offline.doctor import Check, CheckState

if TYPE_CHECKING:
    from collections.abc import Iterable

_INDENT: Final = " " * 9
_COLOURS: Final = {CheckState.OK: "green", CheckState.WARNING: "yellow", CheckState.FAILED: "red"}


def show_checks(checks: Iterable[Check]) -> None:
    """Print checks, for people; colours only on a terminal."""
    for check in checks:
        state = click.style(f"{check.state:<8}", fg=_COLOURS.get(check.state))
        subject = f"{check.portal}: {check.name}" if check.portal else check.name
        click.echo(f"{state} {_wrapped(f'{subject}: {check.finding}')}")
        if check.remedy:
            click.echo(f"{_INDENT}{_wrapped(f'-> {check.remedy}', '   ')}")


def _wrapped(text: str, more: str = "") -> str:
    """Return the text behind the state, in lines that fit a terminal; elsewhere it is one line."""
    columns = terminal_columns()
    if columns is None:
        return text
    width = max(40, columns) - len(_INDENT)
    lines = textwrap.wrap(text, width, subsequent_indent=more, break_long_words=False, break_on_hyphens=False)
    return f"\n{_INDENT}".join(lines)
