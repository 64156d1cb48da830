"""`b24offline auth`: connect a portal, or one that lost its authorization, by OAuth's authorization code."""

from __future__ import annotations

import re
import secrets
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import click

from b24offline.cli.audited import Audited
from b24offline.cli.check_view import show_checks
from b24offline.cli.checked import checked, checked_address
from b24offline.cli.output import Refusal, load_runtime
from b24offline.cli.redirect import Redirects
from b24offline.config import import_pipelines
from b24offline.delivery import add_portal, renew_portal
from b24offline.doctor import CheckState, first_look, needed_scopes
from b24offline.errors import ConfigError
from b24offline.rest import Client, Grant, authorize_link, code_from, exchange_code

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from b24offline.events import Portal
    from b24offline.runtime import Runtime

PORT: Final = 8624


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asked for; ``name`` and ``connector`` are "" where it was left open."""

    endpoint: str
    client_id: str
    name: str
    connector: str


@click.command(cls=Audited)
@click.argument("address", metavar="PORTAL-ADDRESS")
@click.option("--name", default="", help="Name of the portal in b24offline. Default: its host.")
@click.option("--client-id", default="", help="Client id of the application. Asked for if it is not set.")
@click.option(
    "--client-secret-file", type=click.File("r"), help="File with the client secret. Asked for if it is not set."
)
@click.option("--auth-url", default="", help="Address of the token endpoint. Default: B24_AUTH_URL.")
@click.option("--connector", default="", help="Name of this deployment in the portal's queue. Default: B24_CONNECTOR.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=PORT,
    show_default=True,
    help="Local port that the browser returns to.",
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Wait at most this many seconds.",
)
def auth(
    address: str,
    name: str,
    client_id: str,
    client_secret_file: TextIO | None,
    auth_url: str,
    connector: str,
    port: int,
    wait: float,
) -> None:
    """Connect a portal: let its administrator authorize the application, then store the tokens.

    PORTAL-ADDRESS is what the browser shows, such as acme.bitrix24.com. A portal that is already connected gets new
    tokens, which also repairs a lost authorization. The link can be opened on another machine: then paste the address
    that the browser ends at.
    """
    endpoint = endpoint_of(address)
    runtime = load_runtime()
    checked_address(runtime.config, "portal_url", "PORTAL-ADDRESS", endpoint)
    if runtime.config.portal_url == endpoint:
        runtime.ensure_configured_portal()
    known = [portal for portal in runtime.store.portals.list(secret=False) if portal.served]
    at_address = [portal for portal in known if portal.client_endpoint == endpoint and name in ("", portal.name)]
    before = runtime.store.portals.get(at_address[0].name) if at_address else None
    scopes = _scopes(runtime)
    with closing(Redirects(port)) as redirects:
        here = f"http://127.0.0.1:{redirects.port}/" if redirects.listening else ""
        click.echo(requirements(here, scopes))
        client = _client(runtime, before, client_id, client_secret_file, auth_url)
        wanted = Wanted(
            endpoint,
            client.client_id,
            name and checked("portal_name", "--name", name),
            connector and checked("connector", "--connector", connector),
        )
        grant = _authorized(runtime, wanted, client, redirects, _waiting(here, port), wait)
    _refuse_other_portal(grant, endpoint)
    existing = known_portal(known, wanted, grant.member_id)
    if existing:
        # Before anything else: its refresh token of before may have ended with the new one.
        # The operator named this address, and the authorization server has just named the same.
        renew_portal(runtime.store, existing, endpoint, client, grant)
        runtime.poll_soon(existing.name)
    name = wanted.name or _host(endpoint)
    checks = first_look(runtime.http, name, endpoint, grant.access_token, scopes or frozenset())
    show_checks(checks)
    if any(check.state is CheckState.FAILED for check in checks):
        stored = f"The new tokens of portal {existing.name} are" if existing else "Nothing was"
        raise click.ClickException(f"The portal cannot be served until that is corrected. {stored} stored.")
    done = f"{existing.name} has new tokens" if existing else f"{_add(runtime, wanted, client, grant)} was added"
    click.echo(f"Portal {done}. It is polled while b24offline up, or beat and a worker, are running.")
    click.echo("Check everything: b24offline doctor")


def endpoint_of(address: str) -> str:
    """Return the REST address of a portal that was named by its host or any address of its own."""
    text = address.strip()
    text = text if "://" in text else f"https://{text}"
    if re.search(r"/rest/[0-9]+/", text):
        raise Refusal(
            "PORTAL-ADDRESS is the address of a webhook. Webhooks cannot use offline events: create a local "
            "application with OAuth in the portal, then run this with the portal's address, such as acme.bitrix24.com."
        )
    before, rest, _ = text.partition("/rest")
    return checked("portal_url", "PORTAL-ADDRESS", f"{before if rest else _without_page(text)}/rest/")


def known_portal(portals: Iterable[Portal], wanted: Wanted, member_id: str) -> Portal | None:
    """Return the portal of the store that was authorized, None for a new one. Raise a refusal where that is unclear."""
    same = [
        portal
        for portal in portals
        if portal.client_id == wanted.client_id
        and wanted.connector in ("", portal.connector)
        and (portal.client_endpoint == wanted.endpoint or (member_id and portal.member_id == member_id))
    ]
    if not wanted.name and len(same) > 1:
        names = ", ".join(portal.name for portal in same)
        raise Refusal(
            f"This portal is stored under several names: {names}. Choose one with --name. Nothing was stored."
        )
    named = [portal for portal in portals if portal.name == wanted.name]
    if named and named[0] not in same:
        raise Refusal(
            f"The name {wanted.name} belongs to another portal, application or connector. Choose another --name, or "
            f"first: b24offline portal remove {wanted.name}. Nothing was stored."
        )
    return named[0] if named else next(iter(same), None)


def _client(
    runtime: Runtime, portal: Portal | None, client_id: str, secret_file: TextIO | None, auth_url: str
) -> Client:
    """Return the application: as the options say, else that of the portal, else the configured one, else asked for."""
    config = runtime.config
    auth_url = auth_url or (portal.auth_url if portal else config.auth_url)
    secret = secret_file.read() if secret_file else ""
    if not client_id:
        client_id = (portal.client_id if portal else config.client_id) or _asked("--client-id", "Client id")
    if not secret:
        if portal and portal.client_id == client_id:
            secret = portal.client_secret
        elif config.client_secret and config.client_id == client_id:
            secret = config.client_secret.get_secret_value()
        else:
            secret = _asked("--client-secret-file", "Client secret (application key)", hide=True)
    return Client(
        checked("client_id", "--client-id", client_id),
        checked("client_secret", "--client-secret-file", secret),
        checked_address(config, "auth_url", "--auth-url", auth_url),
    )


def _asked(option: str, what: str, *, hide: bool = False) -> str:
    if not sys.stdin.isatty():
        raise Refusal(f"{option} is required: the {what.lower()} is on the application's page in the portal.")
    answer: str = click.prompt(what, hide_input=hide)
    return answer


def _scopes(runtime: Runtime) -> frozenset[str] | None:
    """Return the scopes that the routes need, None where the pipelines cannot be imported, which is shown."""
    try:
        import_pipelines(runtime.config.pipelines)
    except ConfigError as error:
        click.echo(f"The scopes that your pipelines need are unknown. {error}", err=True)
        return None
    return needed_scopes(runtime.catalogue, runtime.config.events or runtime.routes.event_names)


def _authorized(
    runtime: Runtime, wanted: Wanted, client: Client, redirects: Redirects, waiting: str, wait: float
) -> Grant:
    """Show the link, wait for the code, and exchange it at once."""
    state = secrets.token_urlsafe(24)
    link = authorize_link(wanted.endpoint, client.client_id, state)
    click.echo(f"\nAn administrator of the portal opens this link:\n\n  {link}\n\n{waiting}")
    code = redirects.wait(partial(code_from, state=state), wait)
    return exchange_code(runtime.http, wanted.name or _host(wanted.endpoint), client, code)


def requirements(here: str, scopes: frozenset[str] | None) -> str:
    """Return what the application must be."""
    access = "the scopes of your events" if scopes is None else ", ".join(sorted(scopes)) or "any"
    return (
        "The portal needs a local application (in the portal: Developer resources, Other, Local application):\n"
        "  type      server application with OAuth, 'Uses API only' ticked; not a webhook\n"
        f"  address   {here or 'any https address'}\n"
        f"  access    {access}\n"
        "  plan      one that includes rest_offline_extended and rest_auth_connector\n"
    )


def _waiting(here: str, port: int) -> str:
    paste = "paste the whole address that the browser ends at, and press Enter; it is valid for 30 s"
    if here:
        return f"Waiting for the browser. If it does not return here: {paste}."
    return f"Port {port} is taken, so the browser cannot return here: {paste}."


def _refuse_other_portal(grant: Grant, endpoint: str) -> None:
    authorized, asked = (url.lower().rstrip("/").removesuffix("/rest") for url in (grant.client_endpoint, endpoint))
    if authorized and authorized != asked:
        raise click.ClickException(
            f"The application was authorized on {authorized}, not on {asked}. Nothing was stored. If that is the "
            f"portal you mean, or its new name: b24offline auth {authorized}"
        )


def _add(runtime: Runtime, wanted: Wanted, client: Client, grant: Grant) -> str:
    name = wanted.name or checked("portal_name", "--name", _host(wanted.endpoint).lower().replace(":", "-"))
    connector = wanted.connector or runtime.config.connector
    return add_portal(runtime.store, name, wanted.endpoint, connector, client, grant).name


def _without_page(text: str) -> str:
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc}"


def _host(url: str) -> str:
    return urlsplit(url).netloc
