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
    """Upgrade the tables to this version. Every process does so at its start, too."""
    runtime = load_runtime()
    runtime.store.create_schema()
    click.echo("The database has the tables of this version.")


@db.command(cls=Audited)
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Age in days. Default: B24_RETENTION_DAYS.")
def prune(days: float | None) -> None:
    """Delete what is old and done. The workers do so daily.

    These are dead letters that ended, portals that were removed, and objects of the mirror that were deleted or whose
    portal is gone.
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

    The other keys can be removed afterwards. Every process must know the first key before.
    """
    count = load_runtime().store.reencrypt()
    click.echo(f"{count} secrets are encrypted with the first key. The other keys are no longer needed.")
