from b24offline.rest.client import Answer, Command, PortalClient
from b24offline.rest.listing import LIST_PAGE, METHODS, Listed, ObjectLister
from b24offline.rest.oauth import TokenSource
from b24offline.rest.offline_orders import ClearOrder, ReportOrder, ReportRules, ReserveOrder
from b24offline.rest.offline_queue import MALFORMED, NO_STAMP, QUEUE_PAGE, OfflineQueue
from b24offline.rest.portal_client import PacedClient, retry_expired_token
from b24offline.rest.rate_limit import BLOCK_SECONDS, Pace, PortalBlocked
from b24offline.rest.subscriptions import Bound, bind_events, check_plan, fingerprint, unbind_events
from b24offline.rest.transport import make_session

__all__ = [
    "BLOCK_SECONDS",
    "LIST_PAGE",
    "MALFORMED",
    "METHODS",
    "NO_STAMP",
    "QUEUE_PAGE",
    "Answer",
    "Bound",
    "ClearOrder",
    "Command",
    "Listed",
    "ObjectLister",
    "OfflineQueue",
    "Pace",
    "PacedClient",
    "PortalBlocked",
    "PortalClient",
    "ReportOrder",
    "ReportRules",
    "ReserveOrder",
    "TokenSource",
    "bind_events",
    "check_plan",
    "fingerprint",
    "make_session",
    "retry_expired_token",
    "unbind_events",
]
