"""One portal as the parts of this room see it: its client, its ledger, and what it shares with other portals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from b24offline.config import refused_endpoint
from b24offline.errors import EndpointRefused
from b24offline.ledger import ChunkLedger, Fencing, JobQueue, LaneSchedule, Ledger, ObjectCache, Orphans
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


class PortalContext:
    """What every part for one portal works with.

    Attributes:
        portal: what the runtime read last, at most a second ago.
        on_gap: called with the time, in milliseconds of the ledger's clock, since when changes may have gone unseen
            because subscriptions had vanished.
    """

    def __init__(self, shared: Shared, portal: Portal, on_gap: Callable[[int], object]) -> None:
        self.portal = portal
        self.name = portal.name
        self.on_gap = on_gap
        self.config = shared.config
        self.timers = shared.timers
        self.redis = shared.redis
        self.store = shared.store
        self.tokens = shared.tokens
        self.rate_limiter = shared.rate_limiter
        self.schedule = shared.schedule
        self.catalogue = shared.catalogue
        self.routes = shared.routes
        self.once_per = shared.once_per
        self._http = shared.http

    @cached_property
    def client(self) -> PortalClient:
        """The portal's REST client, within its rate limit and with tokens.

        Raise EndpointRefused for an address that may not be called; the next reading of the portal may have another.
        """
        if why := refused_endpoint(self.portal.client_endpoint, loopback_http=self.config.loopback_http):
            raise EndpointRefused(self.name, "a call", None, "", f"it {why}")
        return PortalClient(
            RestClient(self.name, self.portal.client_endpoint, self._http),
            self.tokens,
            self.rate_limiter,
            self.name,
            max_wait_seconds=LONGEST_SLEEP_SECONDS,
            block_seconds=BLOCK_SECONDS * self.config.time_scale,
        )

    @cached_property
    def queue(self) -> OfflineQueue:
        """The portal's offline queue."""
        most = self.config.max_record_bytes
        return OfflineQueue(self.client, self.name, self.portal.connector, max_record_bytes=most)

    @cached_property
    def ledger(self) -> Ledger:
        """The portal's ledger."""
        return Ledger(self.redis, self.config.redis_key_prefix, self.name, self.timers)

    @cached_property
    def chunks(self) -> ChunkLedger:
        """The runs of a chunk in the portal's ledger."""
        return ChunkLedger(self.redis, self.ledger)

    @cached_property
    def fencing(self) -> Fencing:
        """Poll lease, in-doubt windows and ledger epoch."""
        limit = self.config.max_in_flight_batches
        most = self.config.portal_ledger_bytes
        return Fencing(self.redis, self.ledger, self.timers, max_in_flight_batches=limit, max_bytes=most)

    @cached_property
    def orphans(self) -> Orphans:
        """What looks at the portal's list saw of its orphans."""
        return Orphans(self.redis, self.ledger, self.timers)

    @cached_property
    def requests(self) -> JobQueue:
        """What commands and the machinery ask the workers to do."""
        return JobQueue(self.redis, self.ledger)

    @cached_property
    def object_cache(self) -> ObjectCache:
        """Objects that were read in bulk and wait for their runs."""
        config = self.config
        return ObjectCache(self.redis, self.ledger, config.object_cache_ttl_seconds, config.portal_cache_bytes)

    @cached_property
    def lanes(self) -> LaneSchedule:
        """When each lane is due."""
        return LaneSchedule(self.redis, self.ledger.stem)
