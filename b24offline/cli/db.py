"""`b24offline db`: the database of the durable store."""

from __future__ import annotations

import click

from b24offline.cli.output import as_sentences, load_runtime


@click.group()
def db() -> None:
    """The database of portals, tokens and dead letters."""


@db.command()
@as_sentences
def upgrade() -> None:
    """Bring the tables to this program's version; every process does so at its start, too."""
    runtime = load_runtime()
    runtime.store.create_schema()
    click.echo("The store is of this program's version.")


@db.command()
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Default: B24_RETENTION_DAYS.")
@as_sentences
def prune(days: float | None) -> None:
    """Delete dead letters that ended, and portals that were removed, long ago. The workers do so daily."""
    runtime = load_runtime()
    dead_letters, portals = runtime.store.prune(days or runtime.config.retention_days, keep=runtime.config.portal_name)
    click.echo(f"Deleted {dead_letters} dead letters and {portals} removed portals.")


@db.command()
@as_sentences
def reencrypt() -> None:
    """Encrypt all secrets anew with the first of B24_SECRET_KEY, so that the keys behind it can be taken away.

    Every process must know the first key before.
    """
    count = load_runtime().store.reencrypt()
    click.echo(f"{count} secrets are encrypted with the first key; no other one is needed any more.")
