"""The command line. A command is imported when it is called, so that small commands and the help start fast."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

COMMANDS: Final = {
    "new": ("b24offline.cli.new:new", "Create a folder with a pipeline, its test and all that is needed to run it."),
    "up": ("b24offline.cli.up:up", "Run everything on this machine."),
    "auth": ("b24offline.cli.auth:auth", "Connect a portal, or authorize it again."),
    "portal": ("b24offline.cli.portal:portal", "Add, show, pause, change and remove portals."),
    "push": ("b24offline.cli.push:push", "Receive the portals' signals, so that events run sooner."),
    "doctor": ("b24offline.cli.doctor:doctor", "Check everything, and say what to do."),
    "status": ("b24offline.cli.status:status", "Show the state of every portal, and who must act."),
    "metrics": ("b24offline.cli.metrics:metrics", "Serve metrics for Prometheus."),
    "events": ("b24offline.cli.events:events", "List events with their pipelines and subscriptions."),
    "bind": ("b24offline.cli.events:bind", "Subscribe the events that have a route."),
    "unbind": ("b24offline.cli.events:unbind", "End subscriptions."),
    "nacked": ("b24offline.cli.nacked:nacked", "Show failed events: nacked, retrying or dead-lettered."),
    "dead-letter": ("b24offline.cli.dead_letter:dead_letter", "List, redrive, drop and export dead letters."),
    "trigger": ("b24offline.cli.trigger:trigger", "Run one object through its pipelines."),
    "reconcile": ("b24offline.cli.reconcile:reconcile", "Find changes whose events never came, and run them."),
    "ledger": ("b24offline.cli.ledger:ledger", "Reset a ledger that another version wrote."),
    "audit": ("b24offline.cli.audit:audit", "Show which commands operators ran."),
    "db": ("b24offline.cli.db:db", "Upgrade, prune and re-encrypt the database."),
}
"""Name -> module and name of the command, and its summary."""
_FIRST_STEPS: Final = "First steps: b24offline new, auth, up, doctor. Settings are environment variables, B24_*."


class Commands(click.Group):
    """A group whose commands are imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all names, in the order of first use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command of that name, or return None."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command that was asked for, and show its errors as sentences."""
        from b24offline.cli.output import errors_as_sentences  # noqa: PLC0415 - the help needs none of its imports

        with errors_as_sentences():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group("b24offline", cls=Commands, epilog=_FIRST_STEPS)
@click.version_option(package_name="b24offline")
def main() -> None:
    """Bring the offline events of Bitrix24 portals into Celery without losing one."""
