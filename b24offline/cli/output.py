"""What all commands need: the runtime, errors as sentences, tables for people, JSON for programs."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from b24offline.config import Config
from b24offline.errors import B24OfflineError, ConfigError, StoreError, StoreUnavailable
from b24offline.runtime import Runtime
from b24offline.supervisor import with_ledger_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_P = ParamSpec("_P")
_T = TypeVar("_T")

_START_IT: Final = "Check Redis and B24_REDIS_URL, or start b24offline up."

WRONG_INPUT: Final = 2
"""Exit status when the command or the configuration must be corrected; nothing was changed."""


def load_runtime() -> Runtime:
    """Return the runtime that the environment describes. Raise `ConfigError`."""
    return Runtime(with_ledger_address(Config.load()))


def refusal(sentence: str) -> click.ClickException:
    """Return the error for wrong input: shows the sentence, exit status 2."""
    return _WrongInput(sentence)


def failure(sentence: str) -> click.ClickException:
    """Return the error for a command that failed on right input: shows the sentence, exit status 1."""
    return _Failed(sentence)


def as_sentences(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Show the errors of a command as sentences: exit status 2 for wrong input, 1 for all other errors."""

    @functools.wraps(command)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return command(*args, **kwargs)
        except StoreUnavailable as error:
            raise _Failed(str(error)) from None
        except (ConfigError, StoreError) as error:
            raise _WrongInput(str(error)) from None
        except B24OfflineError as error:
            raise _Failed(str(error)) from None
        except RedisError as error:
            raise _Failed(f"The ledger cannot be reached: {type(error).__name__}. {_START_IT}") from None

    return run


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


class _WrongInput(click.ClickException):
    exit_code = WRONG_INPUT


class _Failed(click.ClickException):
    exit_code = 1
