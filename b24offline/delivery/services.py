"""What works for one portal, as the runtime builds it and tasks and commands use it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from b24offline.delivery.dead_letters import DeadLetterQueue
from b24offline.delivery.dispatcher import Dispatcher
from b24offline.delivery.object_reader import ObjectReader
from b24offline.delivery.poll_turn import PollTurns
from b24offline.delivery.poller import Poller
from b24offline.delivery.portal_lifecycle import PortalLifecycle
from b24offline.delivery.redriver import Redriver
from b24offline.delivery.settler import Settler
from b24offline.delivery.subscriber import Subscriber
from b24offline.delivery.sweeper import Sweeper
from b24offline.errors import B24OfflineError
from b24offline.ledger import Fencing, JobQueue, LaneSchedule, Ledger, ObjectCache
from b24offline.rest import BLOCK_SECONDS, OfflineQueue, PortalClient, RestClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

    from b24offline.config import Config, Timers
    from b24offline.events import Catalogue, Portal, Routes
    from b24offline.ledger import PollSchedule
    from b24offline.rest import Http, RateLimiter, TokenSource
    from b24offline.store import Store

LONGEST_SLEEP_SECONDS: Final = 5.0
"""The longest a worker sleeps for the rate limit; a longer wait comes back as a message."""
TROUBLE_OF_ONE_PORTAL: Final = (B24OfflineError, ResponseError)
"""What is wrong with one portal, or with its keys in the ledger, and must not keep the others waiting."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the portals of one process share. ``once_per``: see `Runtime.once_per`."""

    config: Config
    timers: Timers
    redis: Redis
    store: Store
    http: Http
    tokens: TokenSource
    rate_limiter: RateLimiter
    schedule: PollSchedule
    catalogue: Catalogue
    routes: Routes
    once_per: Callable[[str, float], bool]


class PortalServices:
    """Everything that works for one portal, each part made when first asked for. ``on_gap``: see `Subscriber`.

    ``portal`` is what the runtime read last, at most a second ago.
    """

    def __init__(self, shared: Shared, portal: Portal, on_gap: Callable[[int], object]) -> None:
        self.portal = portal
        self.name = portal.name
        self._shared = shared
        self._config = shared.config
        self._timers = shared.timers
        self._on_gap = on_gap

    @cached_property
    def client(self) -> PortalClient:
        """The portal's REST client, within its rate limit and with tokens."""
        return PortalClient(
            RestClient(self.name, self.portal.client_endpoint, self._shared.http),
            self._shared.tokens,
            self._shared.rate_limiter,
            self.name,
            max_wait_seconds=LONGEST_SLEEP_SECONDS,
            block_seconds=BLOCK_SECONDS * self._config.time_scale,
        )

    @cached_property
    def queue(self) -> OfflineQueue:
        """The portal's offline queue."""
        return OfflineQueue(self.client, self.name, self.portal.connector)

    @cached_property
    def ledger(self) -> Ledger:
        """The portal's ledger."""
        return Ledger(self._shared.redis, self._config.redis_key_prefix, self.name, self._timers)

    @cached_property
    def fencing(self) -> Fencing:
        """Poll lease, in-doubt windows and ledger epoch."""
        limit = self._config.max_in_flight_batches
        return Fencing(self._shared.redis, self.ledger, self._timers, max_in_flight_batches=limit)

    @cached_property
    def requests(self) -> JobQueue:
        """What commands and the machinery ask the workers to do."""
        return JobQueue(self._shared.redis, self.ledger)

    @cached_property
    def object_cache(self) -> ObjectCache:
        """Objects that were read in bulk and wait for their runs."""
        return ObjectCache(self._shared.redis, self.ledger, self._config.object_cache_ttl_seconds)

    @cached_property
    def reader(self) -> ObjectReader:
        """What reads objects."""
        return ObjectReader(self.client, self._shared.catalogue, self.object_cache, self.ledger)

    @cached_property
    def lanes(self) -> LaneSchedule:
        """When each lane is due."""
        return LaneSchedule(self._shared.redis, self.ledger.stem)

    @cached_property
    def poller(self) -> Poller:
        """What reserves records and opens batches."""
        return Poller(
            portal=self.name,
            queue=self.queue,
            ledger=self.ledger,
            fencing=self.fencing,
            portals=self._shared.store.portals,
            catalogue=self._shared.catalogue,
            routes=self._shared.routes,
            unrouted=self._config.unrouted,
        )

    @cached_property
    def settler(self) -> Settler:
        """What acknowledges and nacks batches."""
        return Settler(self.ledger, self.fencing, self.queue, self._timers, self._shared.store.dead_letters)

    @cached_property
    def dead_letter_queue(self) -> DeadLetterQueue:
        """Runs that were given up until a person acts."""
        return DeadLetterQueue(self.ledger, self._shared.store.dead_letters)

    @cached_property
    def dispatcher(self) -> Dispatcher:
        """What hands the runs of a batch out."""
        return Dispatcher(
            portal=self.name,
            redis=self._shared.redis,
            ledger=self.ledger,
            reader=self.reader,
            routes=self._shared.routes,
            unrouted=self._config.unrouted,
            timers=self._timers,
        )

    @cached_property
    def lifecycle(self) -> PortalLifecycle:
        """What the portal's answers say of its state."""
        return PortalLifecycle(
            portal=self.name,
            portals=self._shared.store.portals,
            ledger=self.ledger,
            fencing=self.fencing,
            client=self.client,
            tokens=self._shared.tokens,
            rate_limiter=self._shared.rate_limiter,
            poll_interval_min_seconds=self._config.poll_interval_min_seconds,
            time_scale=self._config.time_scale,
        )

    @cached_property
    def polls(self) -> PollTurns:
        """What polls the lane whose turn it is."""
        return PollTurns(
            portal=self.name,
            poller=self.poller,
            lifecycle=self.lifecycle,
            lanes=self._config.all_lanes,
            lane_schedule=self.lanes,
            schedule=self._shared.schedule,
            soonest_seconds=self._config.poll_interval_min_seconds,
            latest_seconds=self._config.poll_interval_max_seconds,
        )

    @cached_property
    def sweeper(self) -> Sweeper:
        """What turns overdue into action."""
        return Sweeper(
            ledger=self.ledger,
            fencing=self.fencing,
            dead_letter_queue=self.dead_letter_queue,
            timers=self._timers,
            requests_per_second=self._config.requests_per_second,
            adopts=self._config.claim_orphans,
            once_per=self._shared.once_per,
        )

    @cached_property
    def redriver(self) -> Redriver:
        """What takes nacked records up again."""
        return Redriver(
            portal=self.name,
            queue=self.queue,
            fencing=self.fencing,
            poller=self.poller,
            schedule=self.lanes,
            dispatcher=self.dispatcher,
            routes=self._shared.routes,
            lanes=tuple(self._config.all_lanes),
            first_wait_seconds=self._timers.redrive_backoff_seconds[0],
            patience_seconds=self._config.tick_seconds,
            once_per=self._shared.once_per,
        )

    @cached_property
    def subscriber(self) -> Subscriber:
        """What subscribes the events that the pipelines need."""
        return Subscriber(
            redis=self._shared.redis,
            ledger=self.ledger,
            client=self.client,
            routes=self._shared.routes,
            events=self._config.events,
            enabled=self._config.auto_subscribe,
            look_seconds=self._config.subscription_check_seconds,
            time_scale=self._config.time_scale,
            on_gap=self._on_gap,
        )
