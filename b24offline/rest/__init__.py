"""The portal over HTTP: one client, tokens, the rate limit, and the guarded offline queue."""

from b24offline.rest.auth_servers import AuthServers
from b24offline.rest.authorization import Grant, authorize_link, code_from, exchange_code, exchange_refresh
from b24offline.rest.bodies import TooLarge
from b24offline.rest.call_slots import NotAnswering
from b24offline.rest.circuit import CallRules
from b24offline.rest.client import BatchAnswer, Command, RestClient
from b24offline.rest.list_reading import list_command, list_of, listed_objects
from b24offline.rest.listing import LIST_PAGE, METHODS, Listed, ObjectLister
from b24offline.rest.oauth import TokenSource
from b24offline.rest.offline_orders import ClearOrder, NackOrder, NackRules, ReserveOrder, UnsafeCall
from b24offline.rest.offline_queue import (
    MALFORMED,
    MOST_TOO_LARGE,
    NO_STAMP,
    OVERSIZED,
    QUEUE_METHODS,
    QUEUE_PAGE,
    TOO_LARGE,
    OfflineQueue,
    ReservedAs,
    ReservedPage,
)
from b24offline.rest.portal_client import PortalClient, Slot, retry_expired_token
from b24offline.rest.portal_facts import PortalFacts, portal_facts
from b24offline.rest.push_handlers import (
    HANDLED,
    INSTALLED,
    SIGNAL,
    UNINSTALLED,
    UPDATED,
    bind_handlers,
    listed_handlers,
    unbind_handlers,
)
from b24offline.rest.rate_limit import BLOCK_SECONDS, PortalBlocked, RateLimiter
from b24offline.rest.step_client import StepClient, is_writing
from b24offline.rest.subscriptions import (
    SyncResult,
    bind_events,
    check_plan,
    fingerprint,
    listed_events,
    unbind_events,
)
from b24offline.rest.token_endpoint import Client
from b24offline.rest.transport import Http, Lost, NotSent, RawAnswer, make_session

__all__ = [
    "BLOCK_SECONDS",
    "HANDLED",
    "INSTALLED",
    "LIST_PAGE",
    "MALFORMED",
    "METHODS",
    "MOST_TOO_LARGE",
    "NO_STAMP",
    "OVERSIZED",
    "QUEUE_METHODS",
    "QUEUE_PAGE",
    "SIGNAL",
    "TOO_LARGE",
    "UNINSTALLED",
    "UPDATED",
    "AuthServers",
    "BatchAnswer",
    "CallRules",
    "ClearOrder",
    "Client",
    "Command",
    "Grant",
    "Http",
    "Listed",
    "Lost",
    "NackOrder",
    "NackRules",
    "NotAnswering",
    "NotSent",
    "ObjectLister",
    "OfflineQueue",
    "PortalBlocked",
    "PortalClient",
    "PortalFacts",
    "RateLimiter",
    "RawAnswer",
    "ReserveOrder",
    "ReservedAs",
    "ReservedPage",
    "RestClient",
    "Slot",
    "StepClient",
    "SyncResult",
    "TokenSource",
    "TooLarge",
    "UnsafeCall",
    "authorize_link",
    "bind_events",
    "bind_handlers",
    "check_plan",
    "code_from",
    "exchange_code",
    "exchange_refresh",
    "fingerprint",
    "is_writing",
    "list_command",
    "list_of",
    "listed_events",
    "listed_handlers",
    "listed_objects",
    "make_session",
    "portal_facts",
    "retry_expired_token",
    "unbind_events",
    "unbind_handlers",
]
