"""The command line: what it imports, and that its list of commands says what they say themselves."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from b24offline.cli import main
from b24offline.cli.main import COMMANDS

LIBRARIES = {
    "alembic",
    "billiard",
    "celery",
    "cryptography",
    "flower",
    "kombu",
    "psutil",
    "pydantic",
    "redis",
    "requests",
    "rich",
    "sqlalchemy",
    "tornado",
    "urllib3",
}
"""What commands and workers need, and the help does not."""
HELP = "from b24offline.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
HELP_TIMES_CLICK = 2.5
"""The help may import so many times the modules that `import click` does; in time it is less than that."""


def imported_by(code: str) -> set[str]:
    """Return the names of all modules that a fresh interpreter has imported after the code."""
    reply = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(reply.stdout.splitlines()[-1].split())


def test_help_imports_no_library_and_no_command() -> None:
    found = imported_by(HELP)
    assert not found & LIBRARIES
    ours = {name for name in found if name.startswith("b24offline.")}
    assert ours == {"b24offline.cli", "b24offline.cli.main", "b24offline.contract", "b24offline.errors"}


def test_help_imports_little_more_than_click_itself() -> None:
    nothing, click_alone, the_help = (len(imported_by(code)) for code in ("", "import click", HELP))
    assert the_help - nothing <= HELP_TIMES_CLICK * (click_alone - nothing)


def test_no_command_imports_celery() -> None:
    modules = sorted({target.partition(":")[0] for target, _ in COMMANDS.values()})
    found = imported_by(f"import {', '.join(modules)}")
    assert "b24offline.runtime" in found
    assert not found & {"celery", "kombu"}


def test_it_runs_as_a_module() -> None:
    reply = subprocess.run(
        [sys.executable, "-m", "b24offline", "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert reply.stdout.startswith("Usage: b24offline ")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_under_its_name(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    reply = CliRunner().invoke(main, [name, "--help"])
    assert (reply.exit_code, reply.output.startswith(f"Usage: b24offline {name} ")) == (0, True)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (
            "portal",
            "add authorize claim drain import list pause remove resume rotate-secret set-url show",
        ),
        ("db", "prune reencrypt upgrade"),
    ],
)
def test_every_command_of_a_group_is_there_under_its_name(group: str, names: str) -> None:
    command = main.get_command(click.Context(main), group)
    assert isinstance(command, click.Group)
    assert " ".join(sorted(command.commands)) == names


def test_an_unknown_command_is_refused() -> None:
    reply = CliRunner().invoke(main, ["letters"])
    assert reply.exit_code == 2
    assert "No such command" in reply.output


def test_monitoring_needs_no_runtime() -> None:
    found = imported_by("import b24offline.monitoring")
    assert not found & {"b24offline.runtime", "b24offline.delivery.services", "celery", "requests"}
