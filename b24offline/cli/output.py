"""What all commands need: the runtime, errors as sentences, tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError

from b24offline.config import Config
from b24offline.errors import B24OfflineError, ConfigError, StoreError, StoreUnavailable
from b24offline.runtime import Runtime
from b24offline.supervisor import with_ledger_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_START_IT: Final = "Check Redis and B24_REDIS_URL, or start b24offline up."


def load_runtime() -> Runtime:
    """Return the runtime that the environment describes. Raise `ConfigError`."""
    return Runtime(with_ledger_address(Config.load()))


class Refusal(click.ClickException):
    """Wrong input: the command or the configuration must be corrected, nothing was changed. Exit status 2."""

    exit_code = 2


@contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Show errors as sentences: exit status 2 for wrong input, 1 for all other errors."""
    try:
        yield
    except B24OfflineError as error:
        wrong_input = isinstance(error, (ConfigError, StoreError)) and not isinstance(error, StoreUnavailable)
        raise (Refusal if wrong_input else click.ClickException)(str(error)) from None
    except RedisError as error:
        raise click.ClickException(f"The ledger cannot be reached: {type(error).__name__}. {_START_IT}") from None


def terminal_columns() -> int | None:
    """Return how wide the terminal is, None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, never cut off; where a terminal is too narrow for them, each row as a paragraph."""
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    columns = terminal_columns()
    if columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns:
        for row in rows:
            click.echo(_fact(row[0], row[1], widths[0], columns) if len(row) == 2 else _paragraph(titles, row, columns))
        return
    for number, row in enumerate((titles, *rows)):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(line if number else click.style(line, bold=True))


def _fact(name: str, value: str, width: int, columns: int) -> str:
    begin, indent = f"{name:<{width}}  ", " " * (width + 2)
    return textwrap.fill(
        value, columns, initial_indent=begin, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _paragraph(titles: Sequence[str], row: Sequence[str], columns: int) -> str:
    named = [f"{title} {cell}" if place else cell for place, (title, cell) in enumerate(zip(titles, row, strict=True))]
    unbroken = ", ".join(part.replace(" ", "\0") for part, cell in zip(named, row, strict=True) if cell)
    lines = textwrap.fill(unbroken, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ")


def show_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    click.echo(json.dumps(value, indent=2, default=str))


def span(seconds: float) -> str:
    """Return a span of time for people: `45 s`, `12 min`, `3.5 h`."""
    if abs(seconds) < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if abs(seconds) < 7200 else f"{seconds / 3600:.1f} h"
