"""Builds the objects of one process from its configuration. The only place that does.

Sessions, Redis clients and database engines are made on first use and must not cross a fork: a child builds its own
`Runtime`. A portal is read from the store again after a second at the latest, so that one that was added, moved, paused
or authorized anew is noticed without a restart; its objects are kept while nothing about it has changed.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from b24offline import keys
from b24offline.delivery import BrokerGate, PortalRounds, PortalServices, Shared
from b24offline.errors import ConfigError, StoreUnavailable
from b24offline.events import Catalogue, Routes, shipped_catalogue
from b24offline.events import routes as loaded_routes
from b24offline.ledger import PollSchedule, QueuedMessages, connect, look_soon, note_refused_message, other_schema
from b24offline.monitoring import IssueWebhook, log_alarms
from b24offline.reconciliation import Reconciler, ReconcileSchedule, ReconcileTurns, RunRequests
from b24offline.rest import AuthServers, CallRules, Http, RateLimiter, TokenSource, make_session
from b24offline.store import Cipher, Mirror, Store, load_or_create_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from b24offline.config import Config
    from b24offline.events import Portal

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 300.0
"""How long an event may take from the change to its run before reconciliation calls it missed."""
LEAST_LATE_SECONDS: Final = 1.0
"""However short the timers of a test are, an answer is not late sooner: on a busy machine many take as long."""
LONG_SHARE: Final = 0.9
"""Part of the time for a reply after which a call without one has used up its time."""
QUEUE_ORDER_SECONDS: Final = 5.0
"""How much later than another one a message must have been sent to be read after it by any worker."""
_PORTAL_TTL_SECONDS: Final = 1.0
_ASKED_SECONDS: Final = 60
_WEBHOOK_SECONDS: Final = 10.0
"""How long the webhook may take for its reply."""


class Runtime:
    """The objects of one process, made when first asked for. ``routes``: by default those of the loaded pipelines."""

    def __init__(self, config: Config, *, routes: Routes = loaded_routes) -> None:
        self.config = config
        self.timers = config.timers
        self.routes = routes
        self._services: dict[str, tuple[float, PortalServices]] = {}

    @cached_property
    def redis(self) -> Redis:
        """The ledger's server."""
        password = self.config.sentinel_password
        return connect(
            self.config.redis_url,
            primary=self.config.redis_primary,
            sentinel_password=password.get_secret_value() if password else None,
            **_verified(self.config),
        )

    @cached_property
    def catalogue(self) -> Catalogue:
        """What the event names mean."""
        return shipped_catalogue()

    @cached_property
    def store(self) -> Store:
        """The durable store, its tables made."""
        keys = self.config.secret_keys or (load_or_create_key(self.config.data_dir),)
        store = Store(self.config.database_url, Cipher(keys), ca_file=self.config.service_authorities)
        store.create_schema()
        return store

    @cached_property
    def mirror(self) -> Mirror:
        """The mirror, in the database of the store."""
        return Mirror(self.store.engine)

    @cached_property
    def http(self) -> Http:
        """The HTTP session of this process, with its bounds."""
        return Http(
            make_session(
                str(self.config.ca_file) if self.config.ca_file else None,
                undelivered_seconds=self.timers.read_timeout_seconds,
            ),
            connect_timeout_seconds=self.config.connect_timeout_seconds,
            read_timeout_seconds=self.timers.read_timeout_seconds,
            max_response_bytes=self.config.max_response_bytes,
            loopback_http=self.config.loopback_http,
            auth_hosts=self.config.auth_hosts,
        )

    def check_ledger_schema(self) -> None:
        """Raise LedgerSchemaMismatch where another version keeps a portal's ledger; for a process that starts."""
        if other := other_schema(self.redis, self.config.redis_key_prefix, self.store.portals.names()):
            raise other

    def check_ledger_schema_if_reachable(self) -> None:
        """As `check_ledger_schema`, but only log where ledger or store cannot be reached: a worker waits for both.

        The scripts refuse another schema, too. Raise StoreError where this process can never use the store.
        """
        try:
            self.check_ledger_schema()
        except (RedisError, StoreUnavailable) as error:
            log.warning("ledger schema not checked", extra={"why": type(error).__name__})

    @cached_property
    def schedule(self) -> PollSchedule:
        """When each portal is due."""
        return PollSchedule(self.redis, self.config.redis_key_prefix)

    @cached_property
    def queued(self) -> QueuedMessages:
        """Which messages wait in the queue of polls."""
        patience_seconds = max(1.0, QUEUE_ORDER_SECONDS * self.config.time_scale)
        return QueuedMessages(self.redis, self.config.redis_key_prefix, patience_seconds)

    @cached_property
    def rate_limiter(self) -> RateLimiter:
        """The leaky buckets of all portals, and the slots of their calls."""
        return RateLimiter(
            self.redis,
            key_prefix=self.config.redis_key_prefix,
            requests_per_second=self.config.requests_per_second,
            burst=self.config.burst,
            ack_rate_share=self.config.ack_rate_share,
            call_rules=CallRules(
                in_flight=self.config.calls_in_flight_per_portal,
                long_seconds=self.timers.read_timeout_seconds * LONG_SHARE,
                patience_seconds=self.timers.read_patience_seconds,
                lease_seconds=self.timers.call_lease_seconds,
                slow_seconds=self.timers.slow_call_seconds,
                late_seconds=max(self.timers.late_call_seconds, LEAST_LATE_SECONDS),
                rest_seconds=self.timers.circuit_seconds,
            ),
        )

    @cached_property
    def tokens(self) -> TokenSource:
        """The tokens of all portals."""
        slots = self.rate_limiter.slots
        late_seconds = slots.rules.late_seconds
        servers = AuthServers(self.redis, slots, key_prefix=self.config.redis_key_prefix, late_seconds=late_seconds)
        return TokenSource(self.store.tokens, self.http, servers=servers)

    def ensure_configured_portal(self) -> Portal | None:
        """Bring the portal of the configuration into the store, once a process. None: the configuration names none."""
        return self._configured_portal

    @cached_property
    def _configured_portal(self) -> Portal | None:
        config = self.config
        if config.portal_url is None or config.portal_name is None:
            return None
        if config.client_id is None or config.client_secret is None:
            raise ConfigError("B24_CLIENT_ID and B24_CLIENT_SECRET are required with B24_PORTAL_URL")
        portal = self.store.portals.seed(
            config.portal_name,
            client_endpoint=config.portal_url,
            auth_url=config.auth_url,
            client_id=config.client_id,
            client_secret=config.client_secret.get_secret_value(),
            connector=config.connector,
            refresh_token=config.refresh_token.get_secret_value() if config.refresh_token else None,
        )
        if not portal.served:
            log.warning("configured portal is removed, not served", extra={"portal": portal.name})
        return portal

    def poll_soon(self, name: str) -> None:
        """Make a portal due now, whatever its backoff. Without a ledger it is due anyway."""
        with suppress(RedisError):
            self.schedule.set_next(name, 0)

    def close(self) -> None:
        """Close the connections to ledger and store, as before a fork."""
        if "redis" in self.__dict__:
            self.redis.close()
        if "store" in self.__dict__:
            self.store.engine.dispose()

    def note_refused_message(self) -> bool:
        """Count a message of the broker that was refused. Return whether to log one: at most once a minute."""
        try:
            note_refused_message(self.redis, self.config.redis_key_prefix)
            return self.once_per("refused-message", 60)
        except RedisError:
            return True

    def ask_for_sweep(self, *looks: str) -> None:
        """Let the next tick sweep, and each of the portals take its turn at nacked records."""
        prefix = self.config.redis_key_prefix
        for portal in looks:
            look_soon(self.redis, keys.stem(prefix, portal), "redrive")
        self.redis.set(keys.sweep_asked(prefix), "1", ex=_ASKED_SECONDS)

    def once_per(self, what: str, seconds: float) -> bool:
        """Return whether it is time for this again: true at most once in so many seconds, over all workers."""
        key = keys.once_per(self.config.redis_key_prefix, what)
        return bool(self.redis.set(key, "1", nx=True, px=max(1, round(seconds * 1000))))

    @cached_property
    def _shared(self) -> Shared:
        return Shared(
            config=self.config,
            timers=self.timers,
            redis=self.redis,
            store=self.store,
            http=self.http,
            tokens=self.tokens,
            rate_limiter=self.rate_limiter,
            schedule=self.schedule,
            catalogue=self.catalogue,
            routes=self.routes,
            once_per=self.once_per,
        )

    @cached_property
    def broker_gate(self) -> BrokerGate:
        """Whether the broker has room for what a poll brings."""
        return BrokerGate(self._shared)

    @cached_property
    def rounds(self) -> PortalRounds:
        """What goes through all portals."""
        return PortalRounds(
            self._shared,
            self.services,
            due_requests=lambda portal: self.reconcile_schedule(portal.name).due_kinds(portal),
            log_alarms=self.log_alarms,
        )

    def log_alarms(self) -> None:
        """Log the issues of all portals that began or are over."""
        log_alarms(self.store, self.redis, self.config, self.webhook)

    @cached_property
    def webhook(self) -> IssueWebhook | None:
        """Where issues are sent; None: nowhere."""
        url, secret = self.config.issue_webhook_url, self.config.issue_webhook_secret
        if url is None or secret is None:
            return None
        session = make_session(self.config.service_authorities)
        http = replace(self.http, session=session, read_timeout_seconds=_WEBHOOK_SECONDS)
        address, key = url.get_secret_value(), secret.get_secret_value()
        prefix, scale = self.config.redis_key_prefix, self.config.time_scale
        return IssueWebhook(self.redis, prefix, http, address, key, scale=scale)

    def services(self, name: str) -> PortalServices:
        """Return the objects of one portal; its ``portal`` is at most a second old. Raises `UnknownPortal`."""
        read_at, services = self._services.get(name, (0.0, None))
        if services is not None and time.monotonic() - read_at < _PORTAL_TTL_SECONDS:
            return services
        try:
            portal = self.store.portals.get(name)
        except StoreUnavailable:
            if services is None:
                raise
            # Steps that run need no database: an outage of it is nothing that should fail them.
            log.warning("portal not refreshed, the database cannot be reached", extra={"portal": name})
            portal = services.portal
        if services is None or _place(services.portal) != _place(portal):
            services = PortalServices(self._shared, portal, partial(self._reconcile_gap, name))
        if services.portal.token_version < portal.token_version:
            self.tokens.forget(name)
        services.portal = portal
        self._services[name] = (time.monotonic(), services)
        return services

    @property
    def grace_seconds(self) -> float:
        """`GRACE_SECONDS`, scaled."""
        return GRACE_SECONDS * self.config.time_scale

    def reconcile_schedule(self, name: str) -> ReconcileSchedule:
        """Return what asks for the reconciliations of one portal."""
        return ReconcileSchedule(self.services(name), self.grace_seconds)

    def _reconcile_gap(self, name: str, seen_ms: int) -> None:
        self.reconcile_schedule(name).ask_after_gap(seen_ms)

    def reconciler(self, name: str) -> Reconciler:
        """Return what compares one portal with the mirror; for one turn of work, as it remembers what is under way."""
        return Reconciler(self.services(name), self.mirror, self.grace_seconds)

    def reconcile_turns(self, name: str, *, dispatch: Callable[[str], object]) -> ReconcileTurns:
        """Return what works on the reconciliations of one portal."""
        schedule, reconciler = self.reconcile_schedule(name), partial(self.reconciler, name)
        return ReconcileTurns(self.services(name), schedule, reconciler, dispatch)

    def run_requests(self, name: str, *, dispatch: Callable[[str], object]) -> RunRequests:
        """Return what runs the objects of one portal that commands asked for."""
        return RunRequests(self.services(name), dispatch)


def _verified(config: Config) -> dict[str, Any]:
    """Return what makes the client verify the ledger's server; redis-py would take an option of the address instead."""
    if not config.redis_url.startswith("rediss:"):
        return {}
    authorities = {"ssl_ca_certs": config.service_authorities} if config.service_ca_file else {}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **authorities}


def _place(portal: Portal) -> tuple[str, str]:
    """Return what the services were built with."""
    return portal.client_endpoint, portal.connector
