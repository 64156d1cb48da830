"""The command line. Each command is imported when it is asked for, so that a small one starts fast."""

from __future__ import annotations

import importlib
from typing import Final

import click

COMMANDS: Final = {
    "up": "b24offline.up:up",
    "portal": "b24offline.portal_commands:portal",
    "status": "b24offline.status_command:status",
    "marked": "b24offline.marked_command:marked",
    "dead": "b24offline.dead_commands:dead",
    "run": "b24offline.run_command:run",
    "reconcile": "b24offline.reconcile_command:reconcile",
    "ledger": "b24offline.ledger_commands:ledger",
    "store": "b24offline.store_commands:store",
}
"""Name -> where the command is."""


class Commands(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group("b24offline", cls=Commands)
@click.version_option(package_name="b24offline")
def main() -> None:
    """The offline events of Bitrix24 portals, brought into Celery without losing one."""


if __name__ == "__main__":
    main()
