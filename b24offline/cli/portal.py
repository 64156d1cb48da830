"""`b24offline portal`: add, show, change and remove portals.

Changes are written to the database, where beat's next tick finds them; no restart is needed.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from redis.exceptions import RedisError

from b24offline.cli.audited import Audited
from b24offline.cli.checked import checked, checked_address
from b24offline.cli.output import Refusal, load_runtime, show_json, show_table
from b24offline.cli.portal_import import import_portals
from b24offline.cli.portal_view import columns, facts, open_batches
from b24offline.errors import AuthServerUnavailable, PortalError
from b24offline.events import DesiredState
from b24offline.ledger import unfinished
from b24offline.monitoring import PortalStatus, portal_status, portal_statuses
from b24offline.rest import Client, exchange_refresh

if TYPE_CHECKING:
    from typing import TextIO

    from b24offline.delivery import PortalServices
    from b24offline.runtime import Runtime

_LOOK_SECONDS = 0.5


@click.group()
def portal() -> None:
    """Add, show, pause, change and remove portals."""


@portal.command(cls=Audited)
@click.argument("name")
@click.option("--url", required=True, help="REST address, https://name.bitrix24.com/rest/")
@click.option("--client-id", required=True, help="Client id of the application in the portal.")
@click.option(
    "--client-secret-file", type=click.File("r"), required=True, help="File with the client secret; - reads stdin."
)
@click.option("--refresh-token-file", type=click.File("r"), required=True, help="File with the first refresh token.")
@click.option("--auth-url", help="Address of the token endpoint. Default: B24_AUTH_URL.")
@click.option("--connector", help="Name of this deployment in the portal's queue. Default: B24_CONNECTOR.")
def add(
    name: str,
    url: str,
    client_id: str,
    client_secret_file: TextIO,
    refresh_token_file: TextIO,
    auth_url: str | None,
    connector: str | None,
) -> None:
    """Add a portal whose refresh token you have.

    It also restores a removed portal. If you have no token, use b24offline auth.
    """
    secret, token = client_secret_file.read(), refresh_token_file.read()
    runtime = load_runtime()
    added = runtime.store.portals.add(
        checked("portal_name", "NAME", name),
        client_endpoint=checked_address(runtime.config, "portal_url", "--url", url),
        auth_url=checked_address(runtime.config, "auth_url", "--auth-url", auth_url or runtime.config.auth_url),
        client_id=checked("client_id", "--client-id", client_id),
        client_secret=checked("client_secret", "--client-secret-file", secret),
        connector=checked("connector", "--connector", connector or runtime.config.connector),
        refresh_token=checked("refresh_token", "--refresh-token-file", token),
    )
    click.echo(f"Portal {added.name} was added. It is polled while beat and the workers run.")


portal.add_command(import_portals)


@portal.command("list")
@click.option("--all", "removed", is_flag=True, help="Include removed portals.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_portals(removed: bool, as_json: bool) -> None:
    """List the portals."""
    runtime = load_runtime()
    statuses = portal_statuses(runtime.store, runtime.redis, runtime.config, removed=removed)
    if as_json:
        show_json([status.as_json() for status in statuses])
    else:
        show_table(*columns(statuses))


@portal.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show one portal, without its secrets."""
    status = _status(load_runtime(), name)
    if as_json:
        show_json(status.as_json())
        return
    show_table(("field", "value"), [(key, value) for key, value in facts(status) if value])


@portal.command(cls=Audited)
@click.argument("name")
def pause(name: str) -> None:
    """Stop polling a portal until `portal resume`. Open events still run and are acknowledged."""
    load_runtime().store.portals.set_desired_state(name, DesiredState.PAUSED)
    click.echo(f"Portal {name} is paused. Open events are still processed.")


@portal.command(cls=Audited)
@click.argument("name")
def resume(name: str) -> None:
    """Poll a portal again after pause, drain or a suspension."""
    runtime = load_runtime()
    runtime.store.portals.set_desired_state(name, DesiredState.RUN)
    with suppress(RedisError):
        runtime.rate_limiter.unblock(name)
    runtime.poll_soon(name)
    click.echo(f"Portal {name} is polled again.")


@portal.command(cls=Audited)
@click.argument("name")
@click.option("--wait", is_flag=True, help="Wait until no batch is open.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Wait at most this many seconds."
)
def drain(name: str, wait: bool, timeout: float) -> None:
    """Stop polling a portal, process what is open, then pause it."""
    runtime = load_runtime()
    if (
        runtime.store.portals.get(name).desired_state is not DesiredState.PAUSED
        or runtime.services(name).ledger.open_batches()
    ):
        runtime.store.portals.set_desired_state(name, DesiredState.DRAINING)
    click.echo(f"Portal {name} is draining: {open_batches(_status(runtime, name))}.")
    if wait:
        _await_drained(runtime, name, timeout)


@portal.command(cls=Audited)
@click.argument("name")
@click.option("--force", is_flag=True, help="Remove it even if batches are open or the portal cannot be reached.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def remove(name: str, force: bool, yes: bool) -> None:
    """Unsubscribe a portal and delete its tokens.

    Drain it first. The command shows what still waits there, and asks for confirmation.
    """
    runtime = load_runtime()
    services = runtime.services(name)
    if services.portal.served and not yes:
        if not force:
            services.lifecycle.refuse_open(services.portal)
        click.echo(f"Removing {name} ends its subscriptions and deletes its tokens. {_waits(runtime, services)}")
        click.confirm("Continue?", abort=True)
    for line in services.lifecycle.remove(force=force):
        click.echo(line)


@portal.command(cls=Audited)
@click.argument("name")
@click.option("--refresh-token-file", type=click.File("r"), required=True, help="File with the token; - reads stdin.")
def authorize(name: str, refresh_token_file: TextIO) -> None:
    """Store a new refresh token, after a new authorization.

    The authorization server is asked first; a token that it refuses is not stored.
    """
    token = checked("refresh_token", "--refresh-token-file", refresh_token_file.read())
    runtime = load_runtime()
    known, member_id, unchecked = runtime.store.portals.get_served(name), "", ""
    client = Client(known.client_id, known.client_secret, known.auth_url)
    try:
        grant = exchange_refresh(runtime.http, name, client, token)
        # Only the refresh token: the next call exchanges it once more, and sees whether the portal has moved.
        token, member_id = grant.refresh_token, grant.member_id
    except AuthServerUnavailable as error:
        unchecked = f"It was not checked. {error}"
    except PortalError as error:
        raise click.ClickException(f"{error} Nothing was changed.") from None
    runtime.store.tokens.authorize(name, token, member_id=member_id)
    runtime.poll_soon(name)
    click.echo(f"The new refresh token of portal {name} is stored. The next call uses it.")
    if unchecked:
        click.echo(unchecked, err=True)


@portal.command("rotate-secret", cls=Audited)
@click.option("--client-id", required=True, help="Client id of the application.")
@click.option(
    "--client-secret-file", type=click.File("r"), required=True, help="File with the new secret; - reads stdin."
)
def rotate_secret(client_id: str, client_secret_file: TextIO) -> None:
    """Store the new client secret of an application.

    It is stored for all portals of the application.
    """
    value = checked("client_secret", "--client-secret-file", client_secret_file.read())
    runtime = load_runtime()
    names = runtime.store.portals.set_client_secret(checked("client_id", "--client-id", client_id), value)
    if not names:
        raise Refusal(f"No portal uses the application {client_id}. Nothing was changed.")
    for name in names:
        runtime.poll_soon(name)
    click.echo(f"The new secret is stored for: {', '.join(names)}.")
    if runtime.config.portal_name in names:
        click.echo("Change B24_CLIENT_SECRET too: each process stores that secret when it starts.")


@portal.command("set-url", cls=Audited)
@click.argument("name")
@click.option("--url", required=True, help="The new REST address.")
def set_url(name: str, url: str) -> None:
    """Set or confirm the address of a portal.

    For a portal that was renamed, or for which the authorization server names another address. Its tokens are sent to
    the address that you set.
    """
    runtime = load_runtime()
    address = checked_address(runtime.config, "portal_url", "--url", url)
    runtime.store.portals.set_endpoint(name, address)
    runtime.poll_soon(name)
    click.echo(f"Portal {name} is now called at {address}.")


@portal.command(cls=Audited)
@click.argument("name")
def claim(name: str) -> None:
    """Take over a portal's queue from a deployment that is gone.

    Records that the other deployment has reserved are adopted: use this only when it is gone for good. It can be used
    before the first start, and does nothing if the queue belongs to this deployment already.
    """
    runtime = load_runtime()
    if runtime.config.portal_name == name:
        runtime.ensure_configured_portal()  # the configuration's portal may not be in the store yet
    if not runtime.store.portals.claim(name):
        click.echo(f"Portal {name} already belongs to this deployment. Nothing was changed.")
        return
    runtime.poll_soon(name)
    click.echo(f"Portal {name} now belongs to this deployment. Its reserved records are adopted within minutes.")
    if not runtime.config.claim_orphans:
        click.echo("Adoption is off: set B24_CLAIM_ORPHANS, or those records stay reserved.")


def _await_drained(runtime: Runtime, name: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    shown = ""
    while (status := _status(runtime, name)).portal.desired_state is DesiredState.DRAINING:
        if (line := open_batches(status).partition(",")[0]) != shown:
            click.echo(line)
            shown = line
        if time.monotonic() > deadline:
            why = f"Portal {name} is not drained after {timeout_seconds:.0f} s: {open_batches(status)}"
            raise click.ClickException(f"{why}. Check that the workers are running: b24offline status")
        time.sleep(_LOOK_SECONDS)
    if (state := status.portal.desired_state) is not DesiredState.PAUSED:
        raise click.ClickException(f"Portal {name} is no longer draining: its desired state is now {state}.")
    click.echo(f"Portal {name} is drained and paused.")


def _waits(runtime: Runtime, services: PortalServices) -> str:
    """Return what waits at a portal, and that nobody will run it."""
    try:
        left = unfinished(runtime.redis, services.ledger)
    except RedisError:
        return "The ledger cannot be reached, so it is unknown what waits there."
    counted = {
        f"reserved events with {left.runs} unfinished runs": left.reserved,
        "nacked events": left.nacked,
        "dead letters": left.dead_lettered,
    }
    waits = [f"{count} {what}" for what, count in counted.items() if count]
    return f"This deployment will not run what waits there: {', '.join(waits)}." if waits else "Nothing waits there."


def _status(runtime: Runtime, name: str) -> PortalStatus:
    return portal_status(runtime.store, runtime.redis, runtime.config, runtime.store.portals.get(name))
