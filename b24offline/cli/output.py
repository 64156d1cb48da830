"""What all commands need: the runtime, errors as sentences, tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

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


def show_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with borders on a terminal, elsewhere as aligned columns that are never cut off."""
    if sys.stdout.isatty():
        table = Table(*titles)
        for row in rows:
            table.add_row(*row)
        # A portal's words may look like markup, and an unmatched closing tag would raise an error.
        Console(markup=False, emoji=False).print(table)
        return
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def show_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    click.echo(json.dumps(value, indent=2, default=str))


def span(seconds: float) -> str:
    """Return a span of time for people: `45 s`, `12 min`, `3.5 h`."""
    if abs(seconds) < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if abs(seconds) < 7200 else f"{seconds / 3600:.1f} h"
