"""Writes `docs/commands.md` from the commands as click knows them.

`python -m tools.commands_docs` writes it into the checkout; with `--check` it only says whether it is up to date, and
ends with 1 when it is not.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Final

import click

from b24offline.cli.main import main as command_line
from tools.generated import writer

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDTH: Final = 120
_HEAD: Final = """\
# Commands

Every command says the same with `--help`. Words in capitals are yours to fill in. A file that is `-` is standard input.
The exit status is 0 after success, 1 where something failed or somebody must act, 2 after wrong input, which changes
nothing.

The processes of a deployment are started by Celery: `celery -A b24offline worker`, `celery -A b24offline beat`,
`celery -A b24offline flower`. There each command below is also `celery -A b24offline b24offline ...`.

This page is made from the code: `python -m tools.commands_docs`.
"""
_SHELLS: Final = """
## Completion in your shell

For Bash: put this line into `~/.bashrc`. For Zsh it is `zsh_source` in `~/.zshrc`, for Fish
`_B24OFFLINE_COMPLETE=fish_source b24offline | source` in its configuration.

```sh
eval "$(_B24OFFLINE_COMPLETE=bash_source b24offline)"
```
"""


def markdown() -> str:
    """Return the text of `docs/commands.md`."""
    context = click.Context(command_line, info_name="b24offline")
    return _HEAD + "".join(_commands_of(command_line, context, level=2)) + _SHELLS


def documents() -> dict[str, str]:
    """Return what this module writes: path inside the checkout, and text."""
    return {"docs/commands.md": markdown()}


def _commands_of(group: click.Group, parent: click.Context, level: int) -> Iterator[str]:
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        yield _section(command, context, level)
        if isinstance(command, click.Group):
            yield from _commands_of(command, context, level + 1)


def _section(command: click.Command, context: click.Context, level: int) -> str:
    """Return the chapter of one command: what it does, how it is called, its options."""
    parts = [f"\n{'#' * level} {context.command_path}\n", _help(command)]
    if not isinstance(command, click.Group) or command.invoke_without_command:
        parts.append(f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n")
        parts.append(_options(command, context))
    return "\n".join(filter(None, parts))


def _help(command: click.Command) -> str:
    """Return the help of a command, its paragraphs wrapped; what click must not wrap is a block."""
    return "\n".join(map(_paragraph, inspect.cleandoc(command.help or "").split("\n\n")))


def _paragraph(text: str) -> str:
    if text.startswith("\b\n"):
        return f"```text\n{text[2:]}\n```\n"
    return textwrap.fill(_named_settings(" ".join(text.split())), _WIDTH, break_on_hyphens=False) + "\n"


def _options(command: click.Command, context: click.Context) -> str:
    """Return the table of a command's options, less `--help`; its arguments are explained by its help."""
    options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
    rows = [_row(*record) for option in options if (record := option.get_help_record(context))]
    return "| option | meaning |\n|---|---|\n" + "".join(rows) if rows else ""


def _row(names: str, meaning: str) -> str:
    """Return a row of the table; what click says in brackets is set apart by one blank."""
    plain = _named_settings(" ".join(meaning.split())).replace("|", "\\|")
    bar = "\\|"
    return f"| `{names.replace('|', bar)}` | {plain} |\n"


def _named_settings(text: str) -> str:
    """Return a text with the names of settings as code."""
    return re.sub(r"\bB24_[A-Z_]*[A-Z*](?!\w)", r"`\g<0>`", text)


main = writer("tools.commands_docs", documents)

if __name__ == "__main__":
    main()
