"""`b24offline portal`: add portals, and set what is wanted of them.

Changes go into the database, where beat's next tick finds them; nothing needs a restart.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import click
from pydantic import TypeAdapter, ValidationError
from redis.exceptions import RedisError

from b24offline.cli.output import as_sentences, failure, load_runtime, refusal, show_json, show_table, span
from b24offline.cli.status import TITLES, row
from b24offline.config import Config
from b24offline.events import DesiredState
from b24offline.monitoring import PortalStatus, portal_status, portal_statuses

if TYPE_CHECKING:
    from typing import TextIO

    from b24offline.runtime import Runtime

_LOOK_SECONDS = 0.5


@click.group()
def portal() -> None:
    """Add, show, pause, change and remove portals."""


@portal.command()
@click.argument("name")
@click.option("--url", required=True, help="REST address, https://name.bitrix24.com/rest/")
@click.option("--client-id", required=True, help="Client id of the application in the portal.")
@click.option("--client-secret-file", type=click.File("r"), required=True, help="File with its secret; - reads stdin.")
@click.option("--refresh-token-file", type=click.File("r"), required=True, help="File with the first refresh token.")
@click.option("--auth-url", help="Where tokens are refreshed. Default: B24_AUTH_URL.")
@click.option("--connector", help="auth_connector of the queue. Default: B24_CONNECTOR.")
@as_sentences
def add(
    name: str,
    url: str,
    client_id: str,
    client_secret_file: TextIO,
    refresh_token_file: TextIO,
    auth_url: str | None,
    connector: str | None,
) -> None:
    """Add a portal, or bring back one that was removed."""
    secret, token = client_secret_file.read(), refresh_token_file.read()
    runtime = load_runtime()
    added = runtime.store.portals.add(
        checked("portal_name", "NAME", name),
        client_endpoint=checked("portal_url", "--url", url),
        auth_url=checked("auth_url", "--auth-url", auth_url or runtime.config.auth_url),
        client_id=checked("client_id", "--client-id", client_id),
        client_secret=checked("client_secret", "--client-secret-file", secret),
        connector=checked("connector", "--connector", connector or runtime.config.connector),
        refresh_token=checked("refresh_token", "--refresh-token-file", token),
    )
    click.echo(f"Portal {added.name} was added. It is polled as soon as beat and the workers run.")


@portal.command("list")
@click.option("--all", "removed", is_flag=True, help="Include removed portals.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def list_portals(removed: bool, as_json: bool) -> None:
    """List the portals."""
    runtime = load_runtime()
    found = portal_statuses(runtime.store, runtime.redis, runtime.config, removed=removed)
    if as_json:
        show_json([one.as_json() for one in found])
    else:
        show_table(TITLES, [row(one) for one in found])


@portal.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@as_sentences
def show(name: str, as_json: bool) -> None:
    """Show one portal; never its secrets."""
    one = _overview(load_runtime(), name)
    if as_json:
        show_json(one.as_json())
        return
    show_table(("field", "value"), [(key, value) for key, value in _facts(one) if value])


@portal.command()
@click.argument("name")
@as_sentences
def pause(name: str) -> None:
    """Stop polling a portal until `portal resume`. What is open still runs and is acknowledged."""
    load_runtime().store.portals.set_desired_state(name, DesiredState.PAUSED)
    click.echo(f"Portal {name} is paused: no polls, no adoption, no redrive. What is open is still finished.")


@portal.command()
@click.argument("name")
@as_sentences
def resume(name: str) -> None:
    """Poll a portal again, after pause, drain or a suspension."""
    runtime = load_runtime()
    runtime.store.portals.set_desired_state(name, DesiredState.RUN)
    with suppress(RedisError):
        runtime.rate_limiter.unblock(name)
    _poll_soon(runtime, name)
    click.echo(f"Portal {name} is to be polled.")


@portal.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Return when nothing is open.")
@click.option("--timeout", type=click.FloatRange(min=0), default=600.0, show_default=True, help="Seconds for --wait.")
@as_sentences
def drain(name: str, wait: bool, timeout: float) -> None:
    """Stop polling a portal, finish what is open, then leave it paused."""
    runtime = load_runtime()
    if (
        runtime.store.portals.get(name).desired_state is not DesiredState.PAUSED
        or runtime.services(name).ledger.open_batches()
    ):
        runtime.store.portals.set_desired_state(name, DesiredState.DRAINING)
    click.echo(f"Portal {name} is draining: {_open(_overview(runtime, name))}.")
    if wait:
        _await_drained(runtime, name, timeout)


@portal.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if something is open or the portal cannot be reached.")
@as_sentences
def remove(name: str, force: bool) -> None:
    """Unsubscribe a portal's events and delete its tokens. Drain it first."""
    for line in load_runtime().services(name).lifecycle.remove(force=force):
        click.echo(line)


@portal.command()
@click.argument("name")
@click.option("--refresh-token-file", type=click.File("r"), required=True, help="File with the token; - reads stdin.")
@as_sentences
def authorize(name: str, refresh_token_file: TextIO) -> None:
    """Store the refresh token of a new authorization."""
    token = checked("refresh_token", "--refresh-token-file", refresh_token_file.read())
    runtime = load_runtime()
    runtime.store.tokens.authorize(name, token)
    _poll_soon(runtime, name)
    click.echo(f"Portal {name} has a new refresh token; the next call uses it.")


@portal.command("rotate-secret")
@click.option("--client-id", required=True, help="Client id of the application.")
@click.option("--client-secret-file", type=click.File("r"), required=True, help="File with its secret; - reads stdin.")
@as_sentences
def rotate_secret(client_id: str, client_secret_file: TextIO) -> None:
    """Store an application's new client secret, for all portals of the application."""
    value = checked("client_secret", "--client-secret-file", client_secret_file.read())
    runtime = load_runtime()
    names = runtime.store.portals.set_client_secret(checked("client_id", "--client-id", client_id), value)
    if not names:
        raise refusal(f"No portal has the application {client_id}. Nothing was changed.")
    for name in names:
        _poll_soon(runtime, name)
    click.echo(f"The new secret is stored for: {', '.join(names)}.")
    if runtime.config.portal_name in names:
        click.echo("Change B24_CLIENT_SECRET, too: at its start each process stores the secret of the environment.")


@portal.command("set-url")
@click.argument("name")
@click.option("--url", required=True, help="The new REST address.")
@as_sentences
def set_url(name: str, url: str) -> None:
    """Set the new address of a renamed portal. Its tokens will be sent there."""
    address = checked("portal_url", "--url", url)
    runtime = load_runtime()
    runtime.store.portals.set_endpoint(name, address)
    _poll_soon(runtime, name)
    click.echo(f"Portal {name} is called at {address} from now on.")


@portal.command()
@click.argument("name")
@as_sentences
def claim(name: str) -> None:
    """Adopt what another deployment has reserved in a portal. Use it only when that deployment is gone for good.

    May be used before the first start. Changes nothing where there is nothing to claim.
    """
    runtime = load_runtime()
    if runtime.config.portal_name == name:
        runtime.ensure_configured_portal()  # the configuration's portal may not be in the store yet
    if not runtime.store.portals.claim(name):
        click.echo(f"Portal {name} belongs to this deployment already. Nothing was changed.")
        return
    _poll_soon(runtime, name)
    click.echo(f"Portal {name} belongs to this deployment now. Its reserved records are adopted within minutes.")
    if not runtime.config.claim_orphans:
        click.echo("Adoption is off (B24_CLAIM_ORPHANS): until it is on, those records stay reserved.")


def checked(field: str, option: str, value: str) -> str:
    """Validate a value by the rules of the corresponding setting. Raise the refusal that names the option."""
    info = Config.model_fields[field]
    kind: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    try:
        found = TypeAdapter(kind).validate_python(value.strip())
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise refusal(f"{option} {reason}. Nothing was changed.") from None
    text: str = found.get_secret_value() if hasattr(found, "get_secret_value") else found
    return text


def _poll_soon(runtime: Runtime, name: str) -> None:
    """Make the portal due now, however long its backoff is; without a ledger it is due anyway."""
    with suppress(RedisError):
        runtime.schedule.set_next(name, 0)


def _facts(one: PortalStatus) -> list[tuple[str, str]]:
    about, sample = one.portal, one.sample
    return [
        ("portal", about.name),
        ("desired state", f"{about.desired_state} since {about.desired_since:%Y-%m-%d %H:%M:%S} UTC"),
        ("state", f"{about.state} since {about.state_since:%Y-%m-%d %H:%M:%S} UTC"),
        ("reason", about.state_reason),
        ("address", about.client_endpoint),
        ("authorization server", about.auth_url),
        ("client id", about.client_id),
        ("connector", about.connector),
        ("member id", about.member_id or "unknown until the first token refresh"),
        ("open", _open(one)),
        ("overdue runs", str(sample.overdue_runs) if sample else ""),
        ("next poll", "" if sample is None or sample.next_poll_seconds is None else span(sample.next_poll_seconds)),
        ("dead letters", str(one.dead_letters)),
        ("reconciled", str(sample.reconciled) if sample and sample.reconciled else ""),
        *((f"  {name}", str(count)) for name, count in sorted(sample.counters.items() if sample else ())),
        *((f"the {issue.actor} must act", f"({issue.code}) {issue.message}") for issue in one.issues),
    ]


def _open(one: PortalStatus) -> str:
    if one.sample is None:
        return "unknown, the ledger cannot be reached"
    batches = one.sample.open_batches
    if not batches:
        return "no open batches"
    return f"{len(batches)} open batches, the oldest for {span(max(batches.values()))}"


def _await_drained(runtime: Runtime, name: str, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    reply = ""
    while (now := _overview(runtime, name)).portal.desired_state is DesiredState.DRAINING:
        if (line := _open(now).partition(",")[0]) != reply:
            click.echo(line)
            reply = line
        if time.monotonic() > deadline:
            why = f"Portal {name} is not drained after {timeout_seconds:.0f} s: {_open(now)}"
            raise failure(f"{why}. Check that the workers are running: b24offline status")
        time.sleep(_LOOK_SECONDS)
    if now.portal.desired_state is not DesiredState.PAUSED:
        raise failure(f"Portal {name} is no longer draining: its desired state is now {now.portal.desired_state}.")
    click.echo(f"Portal {name} is drained and paused.")


def _overview(runtime: Runtime, name: str) -> PortalStatus:
    return portal_status(runtime.store, runtime.redis, runtime.config, runtime.store.portals.get(name))
