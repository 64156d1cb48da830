"""The whole examination, in the order in which things are needed. What cannot be looked at is named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from b24offline.config import FILE_SUFFIX, Config, masked_url
from b24offline.contract import QUEUES
from b24offline.doctor.broker_checks import beat_check, broker_checks, broker_facts, ticks
from b24offline.doctor.check import Check, failed, skipped
from b24offline.doctor.connector_checks import connector_check, looks_at
from b24offline.doctor.host_checks import configuration_check, data_dir_check, link_check, store_checks
from b24offline.doctor.ledger_checks import ledger_checks, ledger_facts
from b24offline.doctor.pipeline_checks import pipeline_checks
from b24offline.doctor.portal_checks import needed_scopes, portal_checks
from b24offline.doctor.signal_checks import SignalFacts, signal_check
from b24offline.doctor.subscription_checks import subscription_check
from b24offline.doctor.unreachable import unreachable
from b24offline.errors import B24OfflineError, ConfigError, PortalError, RateLimited, StoreError
from b24offline.events import DesiredState
from b24offline.monitoring import portal_status
from b24offline.rest import HANDLED, listed_handlers, portal_facts
from b24offline.runtime import Runtime
from b24offline.supervisor import with_ledger_address

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from b24offline.delivery import PortalServices

MOST_PORTALS: Final = 20
"""Portals that are called without being named: each costs a few requests and seconds."""
_TICKS: Final = 3
_LEAST_TICK_SECONDS: Final = 5.0
_SHOWN_ELSEWHERE: Final = frozenset({"ledger_unreachable", "wrong_key", "not_polled"})
"""Codes of issues that other checks of the examination show in their own words."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is looked at: one portal or all, whether portals are called, and for how long connectors are watched."""

    portal: str = ""
    call: bool = True
    watch_seconds: float = 0.0


def examine(extent: Extent) -> Iterator[Check]:
    """Yield every check of the deployment that the environment describes. Changes nothing on portals."""
    try:
        config = _configuration()
    except ConfigError as error:
        yield failed("configuration", str(error), "Correct the environment: docs/settings.md has every setting.")
        return
    yield configuration_check(os.environ)
    yield data_dir_check(config.data_dir)
    yield link_check(_links(config))
    runtime = Runtime(config)
    try:
        portals = yield from _store(runtime)
        alive = yield from _ledger(runtime, portals)
        yield from _broker(config)
        if alive:
            yield from _beat(runtime)
        yield from pipeline_checks(config, runtime.routes, runtime.catalogue)
        yield from _portals(runtime, portals, alive, extent)
    finally:
        runtime.close()


def _links(config: Config) -> dict[str, str]:
    return {
        "B24_REDIS_URL": config.redis_url,
        "CELERY_BROKER_URL": config.broker_url,
        "B24_DATABASE_URL": config.database_url,
    }


def _configuration() -> Config:
    """Return the configuration, with the addresses of the embedded Valkey where no others are set."""
    config = with_ledger_address(Config.load())
    if _is_embedded() and not _is_set("CELERY_BROKER_URL"):
        return config.model_copy(update={"broker_url": config.redis_url})
    return config


def _is_embedded() -> bool:
    return not _is_set("B24_REDIS_URL")


def _is_set(variable: str) -> bool:
    return any(os.environ.get(name, "").strip() for name in (variable, variable + FILE_SUFFIX))


def _store(runtime: Runtime) -> Generator[Check, None, Sequence[str] | None]:
    """Yield the checks of the store; return the names of the portals, None where it cannot be used."""
    names = None
    try:
        runtime.ensure_configured_portal()
        yield from store_checks(runtime.store, runtime.config.database_url)
        names = runtime.store.portals.names()
    except (StoreError, ConfigError) as error:
        yield failed("store", str(error), "Correct this first: without the store no portal is served.")
    return names


def _ledger(runtime: Runtime, portals: Sequence[str] | None) -> Generator[Check, None, bool]:
    """Yield the checks of the ledger; return whether it answers."""
    config, alive = runtime.config, False
    where = masked_url(config.redis_url)
    try:
        facts = ledger_facts(runtime.redis, config.redis_key_prefix, portals or ())
        yield from ledger_checks(facts, where, config.redis_key_prefix)
        if portals is not None:
            runtime.check_ledger_schema()
        alive = True
    except ConfigError as error:
        yield failed("ledger schema", str(error), "See docs/operations.md, upgrades.")
    except RedisError as error:
        remedy = "Start Redis, or correct B24_REDIS_URL. Nothing is polled, and nothing is lost, until it answers."
        if _is_embedded():
            remedy = "Start b24offline up, which runs a server of its own, or set B24_REDIS_URL."
        yield unreachable("ledger", where, f"{type(error).__name__}: {error}", "B24_REDIS_URL", remedy=remedy)
    return alive


def _broker(config: Config) -> Iterator[Check]:
    queues = tuple(dict.fromkeys((*QUEUES, *(lane.queue for lane in config.lanes))))
    facts = broker_facts(config.broker_url, queues, config.external_queues)
    yield from broker_checks(
        facts, masked_url(config.broker_url), queues, config.external_queues, remote_control=config.remote_control
    )


def _beat(runtime: Runtime) -> Iterator[Check]:
    seconds = max(_LEAST_TICK_SECONDS, _TICKS * runtime.config.tick_seconds)
    try:
        yield beat_check(seen=ticks(runtime.redis, runtime.config.redis_key_prefix, seconds), seconds=seconds)
    except RedisError as error:
        yield skipped("beat", f"The ledger stopped answering: {type(error).__name__}.")


def _portals(runtime: Runtime, names: Sequence[str] | None, alive: bool, extent: Extent) -> Iterator[Check]:
    if names is None:
        yield skipped("portals", "The store cannot be used.")
        return
    chosen = [name for name in names if extent.portal in ("", name)]
    if not chosen:
        what = f"No portal named {extent.portal}." if extent.portal else "No portal is connected yet."
        yield failed("portals", what, "Connect one: b24offline auth NAME.bitrix24.com")
        return
    for name in chosen[:MOST_PORTALS]:
        try:
            yield from _portal(runtime, name, alive, extent)
        except StoreError as error:
            yield failed("portal", str(error), "See the store and the secret key above.", portal=name)
        except RedisError as error:
            yield skipped("portal", f"The ledger stopped answering: {type(error).__name__}.", portal=name)
    if left := chosen[MOST_PORTALS:]:
        yield skipped("portals", f"{len(left)} more were not called; name one with --portal.")


def _portal(runtime: Runtime, name: str, alive: bool, extent: Extent) -> Iterator[Check]:
    portal = runtime.store.portals.get(name)
    status = portal_status(runtime.store, runtime.redis, runtime.config, portal)
    for issue in status.issues:
        if issue.code not in _SHOWN_ELSEWHERE:
            yield failed(issue.code, issue.message, f"The {issue.actor} must act.", portal=name)
    if portal.desired_state is not DesiredState.RUN:
        yield skipped("portal", f"Not called: it is {portal.desired_state}.", portal=name)
    elif not (extent.call and alive):
        why = "the ledger, which counts its calls, does not answer" if extent.call else "--offline"
        yield skipped("portal", f"Not called: {why}.", portal=name)
    else:
        try:
            yield from _called(runtime, runtime.services(name), extent)
        except (PortalError, RateLimited) as error:
            who = f"The {error.actor} must act." if error.actor != "nobody" else "If this lasts, the operator must act."
            yield failed("authorization", str(error), who, portal=name)
        except B24OfflineError as error:
            yield failed("authorization", str(error), f"The {error.actor} must act.", portal=name)


def _called(runtime: Runtime, services: PortalServices, extent: Extent) -> Iterator[Check]:
    """Yield what the portal's own answers say. Raise the error of a call that fails as a whole."""
    portal = services.portal
    facts = portal_facts(lambda commands: services.client.batch(commands, kind="poll"))
    yield from portal_checks(
        facts, needed_scopes(runtime.catalogue, services.subscriber.wanted), datetime.now(UTC), portal.name
    )
    yield subscription_check(portal, services.subscriber.plan())
    yield signal_check(_signals(services), portal.name)
    yield connector_check(looks_at(services, extent.watch_seconds), portal)


def _signals(services: PortalServices) -> SignalFacts:
    """Return what is known of a portal's signals; it is asked only where they are wanted."""
    address = services.config.push_url or ""
    bound = listed_handlers(services.client, address) if address else frozenset()
    now_ms = services.ledger.now_ms()
    return SignalFacts(address, frozenset(HANDLED) - bound, services.lanes.signals(), now_ms)
