"""`b24offline db`: the database of portals, tokens and dead letters."""

from __future__ import annotations

import click

from b24offline.cli.audited import Audited
from b24offline.cli.output import load_runtime


@click.group()
def db() -> None:
    """Upgrade, prune and re-encrypt the database."""


@db.command(cls=Audited)
def upgrade() -> None:
    """Upgrade the tables to this version. Every process also does so when it starts."""
    runtime = load_runtime()
    runtime.store.create_schema()
    click.echo("The database has the tables of this version.")


@db.command(cls=Audited)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Age in days. Default: B24_RETENTION_DAYS.")
def prune(days: float | None) -> None:
    """Delete old data that is no longer needed. The workers do so daily.

    That is: ended dead letters, removed portals, and mirrored objects that were deleted or whose portal is gone.
    """
    runtime = load_runtime()
    pruned = runtime.store.prune(days or runtime.config.retention_days, keep=runtime.config.portal_name)
    click.echo(
        f"Deleted {pruned.dead_letters} dead letters, {pruned.portals} removed portals and {pruned.objects} objects of "
        "the mirror."
    )


@db.command(cls=Audited)
def reencrypt() -> None:
    """Encrypt all secrets with the first key of B24_SECRET_KEY.

    Every process must have the first key before this; the other keys can be removed afterwards.
    """
    count = load_runtime().store.reencrypt()
    click.echo(f"{count} secrets are encrypted with the first key. The other keys are no longer needed.")
