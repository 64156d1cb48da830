"""Builds the objects of one process from its configuration. The only place that does.

Sessions, Redis clients and database engines are made on first use and must not cross a fork: a child builds its own
`Runtime`. A portal is read from the store again after a second at the latest, so that one that was added, moved, paused
or authorized anew is noticed without a restart; its objects are kept while nothing about it has changed.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from redis import Redis

from b24offline import ledger_keys as keys
from b24offline.catalogue import Catalogue, shipped_catalogue
from b24offline.cipher import Cipher, load_or_create_key
from b24offline.dispatcher import Dispatcher
from b24offline.errors import ConfigError, StoreUnavailable
from b24offline.injection import Injector
from b24offline.ledger import Ledger
from b24offline.ledger_schema import other_schema
from b24offline.mirror_table import Mirror
from b24offline.oauth import TokenSource
from b24offline.object_lister import ObjectLister
from b24offline.object_reader import ObjectReader
from b24offline.offline_queue import OfflineQueue
from b24offline.paced_client import PacedClient
from b24offline.parking import Parking
from b24offline.poll_schedule import LaneSchedule, PollSchedule
from b24offline.poller import Poller
from b24offline.portal_guard import PortalGuard
from b24offline.portal_lifecycle import PortalLifecycle
from b24offline.rate_limit import BLOCK_SECONDS, Pace
from b24offline.reconcile_schedule import ReconcileSchedule
from b24offline.reconcile_turn import ReconcileTurns
from b24offline.reconciliation import Reconciler
from b24offline.redriver import Redriver
from b24offline.request_box import RequestBox
from b24offline.rest import PortalClient, make_session
from b24offline.routing import routes
from b24offline.run_requests import RunRequests
from b24offline.services import PortalKit
from b24offline.settler import Settler
from b24offline.snapshots import Snapshots
from b24offline.store import Store
from b24offline.subscriber import Subscriber

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from b24offline.config import Config
    from b24offline.portal import Portal

log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS: Final = 5.0
"""The longest a worker sleeps for the pace; a longer wait comes back as a message."""
GRACE_SECONDS: Final = 300.0
"""How long an event may take from the change to its run before reconciliation calls it missed."""
_PORTAL_TTL_SECONDS: Final = 1.0


class Runtime:
    """The objects of one process, made when first asked for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.timers = config.timers
        self._kits: dict[str, tuple[float, PortalKit]] = {}

    @cached_property
    def redis(self) -> Redis:
        """The ledger's server."""
        return Redis.from_url(
            self.config.redis_url,
            decode_responses=True,
            socket_connect_timeout=5,
            socket_timeout=30,
            health_check_interval=30,
        )

    @cached_property
    def catalogue(self) -> Catalogue:
        """What the event names mean."""
        return shipped_catalogue()

    @cached_property
    def store(self) -> Store:
        """The durable store, its tables made."""
        keys = self.config.secret_keys or (load_or_create_key(self.config.data_dir),)
        store = Store(self.config.database_url, Cipher(keys))
        store.create_schema()
        return store

    @cached_property
    def mirror(self) -> Mirror:
        """The mirror table, made; in the database of the store."""
        mirror = Mirror(self.store.engine)
        mirror.create_schema()
        return mirror

    @cached_property
    def session(self) -> requests.Session:
        """The HTTP session of this process."""
        return make_session(str(self.config.ca_file) if self.config.ca_file else None)

    def check_ledger_schema(self) -> None:
        """Raise LedgerSchemaMismatch where another version keeps a portal's ledger; for a process that starts."""
        if other := other_schema(self.redis, self.config.key_prefix, self.store.portals.names()):
            raise other

    @cached_property
    def schedule(self) -> PollSchedule:
        """When each portal is due."""
        return PollSchedule(self.redis, self.config.key_prefix)

    @cached_property
    def pace(self) -> Pace:
        """The leaky buckets of all portals."""
        return Pace(
            self.redis,
            key_prefix=self.config.key_prefix,
            requests_per_second=self.config.requests_per_second,
            burst=self.config.burst,
            settle_share=self.config.settle_share,
        )

    @cached_property
    def tokens(self) -> TokenSource:
        """The tokens of all portals."""
        return TokenSource(
            self.store.tokens,
            self.session,
            connect_timeout_seconds=self.config.connect_timeout_seconds,
            read_timeout_seconds=self.timers.read_timeout_seconds,
        )

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
            log.warning("the configured portal was removed and stays so", extra={"portal": portal.name})
        return portal

    def close(self) -> None:
        """Close the connections to ledger and store, as before a fork."""
        if "redis" in self.__dict__:
            self.redis.close()
        if "store" in self.__dict__:
            self.store.engine.dispose()

    def turn(self, what: str, seconds: float) -> bool:
        """Whether it is time for this again: true at most once in so many seconds, over all workers."""
        key = keys.turn(self.config.key_prefix, what)
        return bool(self.redis.set(key, "1", nx=True, px=max(1, round(seconds * 1000))))

    def kit(self, name: str) -> PortalKit:
        """The objects of one portal; its ``portal`` is at most a second old. Raises `UnknownPortal`."""
        read_at, kit = self._kits.get(name, (0.0, None))
        if kit is not None and time.monotonic() - read_at < _PORTAL_TTL_SECONDS:
            return kit
        try:
            portal = self.store.portals.get(name)
        except StoreUnavailable:
            if kit is None:
                raise
            # Steps that run need no database: an outage of it is nothing that should fail them.
            log.warning("portal not read again, the database is away", extra={"portal": name})
            portal = kit.portal
        if kit is None or _place(kit.portal) != _place(portal):
            kit = self._build(portal)
        if kit.portal.token_version < portal.token_version:
            self.tokens.forget(name)
        kit = replace(kit, portal=portal)
        self._kits[name] = (time.monotonic(), kit)
        return kit

    @property
    def grace_seconds(self) -> float:
        """`GRACE_SECONDS`, scaled."""
        return GRACE_SECONDS * self.config.time_scale

    def injector(self, name: str) -> Injector:
        """What runs objects of one portal without an event."""
        return Injector(self.kit(name).ledger, self.catalogue)

    def reconcile_schedule(self, name: str) -> ReconcileSchedule:
        """What asks for the reconciliations of one portal."""
        kit = self.kit(name)
        return self._reconcile_schedule(kit.ledger, kit.requests)

    def _reconcile_schedule(self, ledger: Ledger, requests: RequestBox) -> ReconcileSchedule:
        return ReconcileSchedule(
            redis=self.redis,
            ledger=ledger,
            requests=requests,
            hours=self.config.reconcile_hours,
            grace_seconds=self.grace_seconds,
            sweep_seconds=self.timers.sweep_seconds,
            time_scale=self.config.time_scale,
        )

    def reconciler(self, name: str) -> Reconciler:
        """What compares one portal with the mirror; for one turn of work, as it remembers what is under way."""
        kit = self.kit(name)
        return Reconciler(
            portal=name,
            lister=ObjectLister(kit.client, name),
            queue=kit.queue,
            ledger=kit.ledger,
            mirror=self.mirror,
            injector=self.injector(name),
            catalogue=self.catalogue,
            routes=routes,
            grace_ms=round(self.grace_seconds * 1000),
        )

    def reconcile_turns(self, name: str, *, dispatch: Callable[[str], object]) -> ReconcileTurns:
        """What works on the reconciliations of one portal."""
        kit = self.kit(name)
        return ReconcileTurns(
            redis=self.redis,
            ledger=kit.ledger,
            requests=kit.requests,
            lifecycle=kit.lifecycle,
            injector=self.injector(name),
            schedule=self.reconcile_schedule(name),
            reconciler=lambda: self.reconciler(name),
            dispatch=dispatch,
            timers=self.timers,
            requests_per_second=self.config.requests_per_second,
            max_open_batches=self.config.max_open_batches,
        )

    def run_requests(self, name: str, *, dispatch: Callable[[str], object]) -> RunRequests:
        """What runs the objects of one portal that commands asked for."""
        kit = self.kit(name)
        return RunRequests(
            portal=name,
            ledger=kit.ledger,
            requests=kit.requests,
            injector=self.injector(name),
            catalogue=self.catalogue,
            routes=routes,
            dispatch=dispatch,
            lease_seconds=self.timers.settle_lease_seconds,
        )

    def _build(self, portal: Portal) -> PortalKit:
        config, timers, name = self.config, self.timers, portal.name
        rest = PortalClient(
            name,
            portal.client_endpoint,
            self.session,
            connect_timeout_seconds=config.connect_timeout_seconds,
            read_timeout_seconds=timers.read_timeout_seconds,
            max_response_bytes=config.max_response_bytes,
        )
        client = PacedClient(
            rest,
            self.tokens,
            self.pace,
            name,
            max_wait_seconds=LONGEST_SLEEP_SECONDS,
            block_seconds=BLOCK_SECONDS * config.time_scale,
        )
        queue = OfflineQueue(client, name, portal.connector)
        ledger = Ledger(self.redis, config.key_prefix, name, timers)
        guard = PortalGuard(self.redis, ledger, timers, max_open_batches=config.max_open_batches)
        requests = RequestBox(self.redis, ledger)
        snapshots = Snapshots(self.redis, ledger, config.snapshot_ttl_seconds)
        poller = Poller(
            portal=name,
            queue=queue,
            ledger=ledger,
            guard=guard,
            store=self.store,
            catalogue=self.catalogue,
            routes=routes,
            unrouted=config.unrouted,
        )
        reader = ObjectReader(client, self.catalogue, snapshots, ledger)
        lanes = LaneSchedule(self.redis, ledger.stem)
        dispatcher = Dispatcher(
            portal=name, redis=self.redis, ledger=ledger, reader=reader, routes=routes, timers=timers
        )
        return PortalKit(
            portal=portal,
            client=client,
            queue=queue,
            ledger=ledger,
            guard=guard,
            poller=poller,
            lanes=lanes,
            settler=Settler(ledger, guard, queue, timers, self.store.dead_letters),
            parking=Parking(ledger, self.store.dead_letters, timers),
            snapshots=snapshots,
            reader=reader,
            requests=requests,
            dispatcher=dispatcher,
            redriver=Redriver(
                portal=name,
                queue=queue,
                guard=guard,
                poller=poller,
                schedule=lanes,
                dispatcher=dispatcher,
                routes=routes,
                lanes=tuple(config.all_lanes),
                first_wait_seconds=timers.held_backoff_seconds[0],
                patience_seconds=config.tick_seconds,
                once_per=self.turn,
            ),
            subscriber=Subscriber(
                redis=self.redis,
                ledger=ledger,
                client=client,
                routes=routes,
                events=config.events,
                enabled=config.auto_bind,
                look_seconds=config.bind_look_seconds,
                time_scale=config.time_scale,
                on_gap=self._reconcile_schedule(ledger, requests).ask_after_gap,
            ),
            lifecycle=PortalLifecycle(
                portal=name,
                store=self.store,
                ledger=ledger,
                guard=guard,
                client=client,
                tokens=self.tokens,
                pace=self.pace,
                poll_interval_min_seconds=config.poll_interval_min_seconds,
                time_scale=config.time_scale,
            ),
        )


def _place(portal: Portal) -> tuple[str, str]:
    """What the kit's objects were built with."""
    return portal.client_endpoint, portal.connector
