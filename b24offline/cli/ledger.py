"""`b24offline ledger`: the state in Redis, which may be lost and is rebuilt from the portals."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from b24offline.cli.audited import Audited
from b24offline.config import Config
from b24offline.ledger import reset_ledgers
from b24offline.runtime import Runtime
from b24offline.supervisor import SingleStart, embedded_valkey, with_ledger_address

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

_WARNING = (
    "This deletes the ledger of all portals. Stop beat and the workers first. Open events run again, including those "
    "that have already run. Continue?"
)


@click.group()
def ledger() -> None:
    """Reset a ledger that another version wrote."""


@ledger.command(cls=Audited)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset(yes: bool) -> None:
    """Delete the ledger of all portals, which is the state of open events in Redis.

    This version then starts a new ledger and adopts the open events.
    """
    if not yes:
        click.confirm(_WARNING, abort=True)
    config = Config.load()
    with _server(config) as redis:
        deleted = reset_ledgers(redis, config.redis_key_prefix)
    click.echo(f"{deleted} keys were deleted. Start this version: open events are adopted within minutes.")


@contextmanager
def _server(config: Config) -> Iterator[Redis]:
    """Yield the ledger's server; an embedded one is started, as only `b24offline up` runs it otherwise."""
    if with_ledger_address(config) is config:
        yield Runtime(config).redis
        return
    with SingleStart(config.data_dir), embedded_valkey(config) as server:
        yield Runtime(config.model_copy(update={"redis_url": server.url})).redis
