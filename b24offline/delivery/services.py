"""What works for one portal, as the runtime builds it and tasks and commands use it."""

from __future__ import annotations

from dataclasses import dataclass
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

    import requests
    from redis import Redis

    from b24offline.config import Config
    from b24offline.events import Catalogue, Portal, Routes
    from b24offline.ledger import PollSchedule
    from b24offline.rest import RateLimiter, TokenSource
    from b24offline.store import Store

LONGEST_SLEEP_SECONDS: Final = 5.0
"""The longest a worker sleeps for the pace; a longer wait comes back as a message."""
TROUBLE_OF_ONE_PORTAL: Final = (B24OfflineError, ResponseError)
"""What is wrong with one portal, or with its keys in the ledger, and must not keep the others waiting."""


@dataclass(frozen=True, slots=True)
class PortalServices:
    """Everything that works for one portal. ``portal`` is at most a second old."""

    portal: Portal
    client: PortalClient
    queue: OfflineQueue
    ledger: Ledger
    fencing: Fencing
    poller: Poller
    lanes: LaneSchedule
    settler: Settler
    dead_letter_queue: DeadLetterQueue
    object_cache: ObjectCache
    reader: ObjectReader
    requests: JobQueue
    dispatcher: Dispatcher
    polls: PollTurns
    redriver: Redriver
    sweeper: Sweeper
    subscriber: Subscriber
    lifecycle: PortalLifecycle


@dataclass(frozen=True, slots=True)
class Shared:
    """What the portals of one process share. ``once_per``: see `Runtime.turn`."""

    config: Config
    redis: Redis
    store: Store
    session: requests.Session
    tokens: TokenSource
    rate_limiter: RateLimiter
    schedule: PollSchedule
    catalogue: Catalogue
    routes: Routes
    once_per: Callable[[str, float], bool]


def build_services(shared: Shared, portal: Portal, on_gap: Callable[[int], object]) -> PortalServices:
    """Build what works for one portal. ``on_gap``: see `Subscriber`."""
    config, timers, name = shared.config, shared.config.timers, portal.name
    rest = RestClient(
        name,
        portal.client_endpoint,
        shared.session,
        connect_timeout_seconds=config.connect_timeout_seconds,
        read_timeout_seconds=timers.read_timeout_seconds,
        max_response_bytes=config.max_response_bytes,
    )
    client = PortalClient(
        rest,
        shared.tokens,
        shared.rate_limiter,
        name,
        max_wait_seconds=LONGEST_SLEEP_SECONDS,
        block_seconds=BLOCK_SECONDS * config.time_scale,
    )
    queue = OfflineQueue(client, name, portal.connector)
    ledger = Ledger(shared.redis, config.redis_key_prefix, name, timers)
    fencing = Fencing(shared.redis, ledger, timers, max_in_flight_batches=config.max_in_flight_batches)
    requests = JobQueue(shared.redis, ledger)
    object_cache = ObjectCache(shared.redis, ledger, config.object_cache_ttl_seconds)
    poller = Poller(
        portal=name,
        queue=queue,
        ledger=ledger,
        fencing=fencing,
        store=shared.store,
        catalogue=shared.catalogue,
        routes=shared.routes,
        unrouted=config.unrouted,
    )
    reader = ObjectReader(client, shared.catalogue, object_cache, ledger)
    lanes = LaneSchedule(shared.redis, ledger.stem)
    dispatcher = Dispatcher(
        portal=name,
        redis=shared.redis,
        ledger=ledger,
        reader=reader,
        routes=shared.routes,
        unrouted=config.unrouted,
        timers=timers,
    )
    dead_letter_queue = DeadLetterQueue(ledger, shared.store.dead_letters, timers)
    lifecycle = PortalLifecycle(
        portal=name,
        store=shared.store,
        ledger=ledger,
        fencing=fencing,
        client=client,
        tokens=shared.tokens,
        rate_limiter=shared.rate_limiter,
        poll_interval_min_seconds=config.poll_interval_min_seconds,
        time_scale=config.time_scale,
    )
    return PortalServices(
        portal=portal,
        client=client,
        queue=queue,
        ledger=ledger,
        fencing=fencing,
        poller=poller,
        lanes=lanes,
        settler=Settler(ledger, fencing, queue, timers, shared.store.dead_letters),
        dead_letter_queue=dead_letter_queue,
        object_cache=object_cache,
        reader=reader,
        requests=requests,
        dispatcher=dispatcher,
        polls=PollTurns(
            portal=name,
            poller=poller,
            lifecycle=lifecycle,
            lanes=config.all_lanes,
            lane_schedule=lanes,
            schedule=shared.schedule,
            soonest_seconds=config.poll_interval_min_seconds,
            latest_seconds=config.poll_interval_max_seconds,
        ),
        sweeper=Sweeper(
            ledger=ledger,
            fencing=fencing,
            dead_letter_queue=dead_letter_queue,
            timers=timers,
            requests_per_second=config.requests_per_second,
            adopts=config.claim_orphans,
            once_per=shared.once_per,
        ),
        redriver=Redriver(
            portal=name,
            queue=queue,
            fencing=fencing,
            poller=poller,
            schedule=lanes,
            dispatcher=dispatcher,
            routes=shared.routes,
            lanes=tuple(config.all_lanes),
            first_wait_seconds=timers.redrive_backoff_seconds[0],
            patience_seconds=config.tick_seconds,
            once_per=shared.once_per,
        ),
        subscriber=Subscriber(
            redis=shared.redis,
            ledger=ledger,
            client=client,
            routes=shared.routes,
            events=config.events,
            enabled=config.auto_subscribe,
            look_seconds=config.subscription_check_seconds,
            time_scale=config.time_scale,
            on_gap=on_gap,
        ),
        lifecycle=lifecycle,
    )
