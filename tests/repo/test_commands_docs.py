"""The page of commands says what the commands say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from b24offline.cli.main import main as command_line
from tools.commands_docs import documents, main
from tools.generated import outdated

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = documents()["docs/commands.md"]


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group, with its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def chapter(path: str) -> str:
    return PAGE.partition(f"# {path}\n")[2].partition("\n#")[0]


def test_the_committed_page_is_up_to_date() -> None:
    assert outdated(CHECKOUT, documents()) == []


def test_every_command_has_a_chapter_with_its_summary_and_options() -> None:
    found = list(commands(command_line, "b24offline"))
    assert len(found) > 35
    for path, command in found:
        summary = (command.help or "").partition("\n")[0].split()
        assert " ".join(chapter(path).replace("`", "").split()).startswith(" ".join(summary).replace("`", "")), path
        for parameter in command.params:
            assert all(name in chapter(path) for name in parameter.opts if name.startswith("--")), (path, parameter)


def test_check_notices_a_difference_and_writing_mends_it(tmp_path: Path) -> None:
    where = ["--checkout", str(tmp_path)]
    assert CliRunner().invoke(main, ["--check", *where]).exit_code == 1
    assert CliRunner().invoke(main, where).exit_code == 0
    assert CliRunner().invoke(main, ["--check", *where]).exit_code == 0
    page = tmp_path / "docs" / "commands.md"
    page.write_text(page.read_text().replace("--dry-run", "--try"))
    checked = CliRunner().invoke(main, ["--check", *where])
    assert (checked.exit_code, "docs/commands.md differ from the code" in checked.output) == (1, True)
