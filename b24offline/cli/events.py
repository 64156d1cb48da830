"""`b24offline events`, `bind`, `unbind`: what portals queue for us, against what the pipelines want."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
from redis.exceptions import RedisError

from b24offline.cli.audited import Audited
from b24offline.cli.output import Refusal, load_runtime, show_json, show_table
from b24offline.cli.patience import patiently
from b24offline.config import import_pipelines
from b24offline.events import DesiredState, unrouted_deletions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from b24offline.delivery import PortalServices
    from b24offline.events import Portal
    from b24offline.runtime import Runtime

_LEFT_OUT = "Deleted objects stay in the mirror, because these events have no route: "


@click.command()
@click.option("--scope", default="", help="Only events of this scope, such as crm.")
@click.option("--entity", default="", help="Only events of this entity, such as deal or crm_deal.")
@click.option("--routed", is_flag=True, help="Only events that have a route or are subscribed.")
@click.option("--portal", default="", help="Only the subscriptions of this portal.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def events(scope: str, entity: str, routed: bool, portal: str, as_json: bool) -> None:
    """List events with their entities, their pipelines, and since when they are subscribed.

    Subscriptions are shown as the workers last saw them. No portal is called.
    """
    runtime = _loaded()
    seen = {name: _seen(runtime, name) for name in _names(runtime, portal)}
    rows = [row for row in _rows(runtime, seen) if _is_meant(row, scope, entity, routed=routed)]
    if as_json:
        show_json(rows)
        return
    titles = ("event", "scope", "entity", "offline", "pipelines", "subscribed since")
    show_table((*titles[:-1], "subscribed since (UTC)"), [tuple(_cell(row[title]) for title in titles) for row in rows])
    if left := unrouted_deletions(runtime.routes, runtime.catalogue):
        click.echo(f"{_LEFT_OUT}{', '.join(left)}")


@click.command(cls=Audited)
@click.option("--portal", default="", help="Name of the portal; all by default.")
@click.option("--dry-run", is_flag=True, help="Only show the difference.")
def bind(portal: str, dry_run: bool) -> None:
    """Subscribe the events that have a route. Workers do so by themselves, within seconds.

    Subscribed events without a route are listed and kept; `unbind` ends them.
    """
    runtime = _loaded()
    for services in _polled(runtime, portal):
        plan, name = patiently(services.subscriber.plan), services.portal.name
        for event in plan.missing:
            click.echo(f"{name}: + {event}  {', '.join(runtime.routes.pipelines_for(event)) or 'no pipeline'}")
        for event in plan.unrouted:
            click.echo(f"{name}: ? {event}  has no route: b24offline unbind {event}")
        if dry_run:
            already = f"{len(plan.present)} already subscribed"
            click.echo(f"{name}: {len(plan.missing)} to subscribe, {already}. Nothing was changed.")
            continue
        bound = patiently(partial(services.subscriber.sync, services.portal))
        for event, why in bound.refused.items():
            click.echo(f"{name}: {event} was refused: {why}", err=True)
        click.echo(f"{name}: {len(bound.added)} subscribed now, {bound.present} already subscribed.")
        if bound.refused:
            raise click.ClickException(
                f"Portal {name} refuses {len(bound.refused)} events. Check their names and scopes."
            )


@click.command(cls=Audited)
@click.argument("names", metavar="[EVENT]...", nargs=-1)
@click.option("--portal", default="", help="Name of the portal; all by default.")
@click.option("--unrouted", is_flag=True, help="All events that are subscribed and have no route.")
@click.option("--push", is_flag=True, help="The subscriptions to signals; B24_PUSH_URL must be unset.")
@click.option("--dry-run", is_flag=True, help="Only show what would end.")
def unbind(names: tuple[str, ...], portal: str, unrouted: bool, push: bool, dry_run: bool) -> None:
    """End subscriptions: of each EVENT, of all events without a route, or of signals.

    Events that are already in the portal's queue stay there. An event that has a route is refused: workers would
    subscribe it again.
    """
    if [bool(names), unrouted, push].count(True) != 1:
        raise Refusal("Name events, or use --unrouted or --push. Nothing was changed.")
    runtime = _loaded()
    if push:
        _unbind_signals(runtime, portal, dry_run=dry_run)
        return
    wanted = {name.upper() for name in names}
    for services in _polled(runtime, portal):
        if kept := sorted(wanted & set(services.subscriber.wanted)):
            raise Refusal(
                f"{', '.join(kept)} has a route, so workers would subscribe it again. Remove the route first, or "
                "list the events that you want in B24_EVENTS. Nothing was changed."
            )
        plan, name = patiently(services.subscriber.plan), services.portal.name
        ending = sorted(wanted) or list(plan.unrouted)
        if dry_run:
            click.echo(f"{name}: would end {', '.join(ending) or 'nothing'}. Nothing was changed.")
            continue
        ended = patiently(partial(services.subscriber.unsubscribe, services.portal, ending)) if ending else 0
        click.echo(f"{name}: {ended} subscriptions were ended.")


def _unbind_signals(runtime: Runtime, portal: str, *, dry_run: bool) -> None:
    if runtime.config.push_url:
        raise Refusal("Unset B24_PUSH_URL first: workers would subscribe signals again. Nothing was changed.")
    for services in _polled(runtime, portal):
        handlers, name = services.subscriber.handlers, services.portal.name
        if dry_run:
            address = handlers.bound.partition(" ")[2]
            click.echo(f"{name}: would end {address or 'nothing'}. Nothing was changed.")
            continue
        click.echo(f"{name}: {patiently(handlers.end)} subscriptions to signals were ended.")


def _loaded() -> Runtime:
    runtime = load_runtime()
    import_pipelines(runtime.config.pipelines)
    runtime.ensure_configured_portal()
    return runtime


def _names(runtime: Runtime, portal: str) -> Collection[str]:
    """Return the names of the portals that are meant. Raise UnknownPortal."""
    return [runtime.store.portals.get_without_secret(portal).name] if portal else runtime.store.portals.names()


def _polled(runtime: Runtime, portal: str) -> Iterator[PortalServices]:
    """Yield what works for each portal that was polled. Raise a refusal where one was named and was not."""
    for name in _names(runtime, portal):
        services = runtime.services(name)
        if services.portal.polled and services.portal.ledger_epoch is not None:
            yield services
            continue
        what = _why_left_out(services.portal)
        if portal:
            raise Refusal(f"Portal {name} {what}. Nothing was changed.")
        click.echo(f"{name}: {what}; skipped.", err=True)


def _why_left_out(portal: Portal) -> str:
    if portal.polled:
        return "awaits its first poll, which subscribes its events"
    return f"is {portal.state if portal.desired_state is DesiredState.RUN else portal.desired_state}"


def _seen(runtime: Runtime, name: str) -> Mapping[str, datetime] | None:
    """Return the subscriptions of a portal, None where the ledger does not tell."""
    try:
        return runtime.services(name).subscriber.seen()
    except RedisError:
        return None


def _rows(
    runtime: Runtime, seen: Mapping[str, Mapping[str, datetime] | None]
) -> Iterator[dict[str, str | list[str] | dict[str, str | None]]]:
    """Yield what is known of each event: those of the catalogue, and others that are routed or subscribed."""
    kinds = {kind.name.replace("_{ENTITYTYPEID}", ""): kind for kind in runtime.catalogue.kinds}
    known = [each for each in seen.values() if each is not None]
    more = {name for each in known for name in each} | set(runtime.routes.event_names)
    for event in [*kinds, *sorted(more - set(kinds))]:
        kind = kinds.get(event) or runtime.catalogue.lookup(event)
        yield {
            "event": event,
            "scope": kind.scope if kind else "",
            "entity": kind.entity if kind else "",
            "offline": kind.offline if kind else "unknown",
            "pipelines": list(runtime.routes.pipelines_for(event)),
            "subscribed since": {
                name: None if each is None else each[event].isoformat(timespec="seconds")
                for name, each in seen.items()
                if each is None or event in each
            },
        }


def _is_meant(row: Mapping[str, object], scope: str, entity: str, *, routed: bool) -> bool:
    about = str(row["entity"])
    return (
        scope in ("", row["scope"])
        and entity in ("", about, about.removeprefix(f"{row['scope']}_"))
        and (not routed or bool(row["pipelines"] or row["subscribed since"]))
    )


def _cell(value: str | list[str] | dict[str, str | None]) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {(since or '?')[:16].replace('T', ' ')}" for name, since in value.items()) or "-"
    return (", ".join(value) or "-") if isinstance(value, list) else value
