"""What a portal tells: records, events, the catalogue of their names, routes, and a portal as a value."""

from b24offline.events.catalogue import (
    LISTED_ENTITIES,
    Catalogue,
    EventKind,
    ObjectRead,
    changed_at,
    event_from_record,
    object_id_from,
    object_in,
    shipped_catalogue,
)
from b24offline.events.event import Event, ObjectKey
from b24offline.events.portal import CLAIMED, DesiredState, ObservedState, Portal, RefreshWait, Tokens
from b24offline.events.record import (
    JSON,
    Batch,
    MalformedRecord,
    Record,
    batch_from_rows,
    is_message_id,
    parse_record,
    stamp_seconds,
)
from b24offline.events.retry import PASSING_LATE, PASSING_SOON, RetryRules
from b24offline.events.routing import NO_RULES, Routes, route, routes, unrouted_deletions

__all__ = [
    "CLAIMED",
    "JSON",
    "LISTED_ENTITIES",
    "NO_RULES",
    "PASSING_LATE",
    "PASSING_SOON",
    "Batch",
    "Catalogue",
    "DesiredState",
    "Event",
    "EventKind",
    "MalformedRecord",
    "ObjectKey",
    "ObjectRead",
    "ObservedState",
    "Portal",
    "Record",
    "RefreshWait",
    "RetryRules",
    "Routes",
    "Tokens",
    "batch_from_rows",
    "changed_at",
    "event_from_record",
    "is_message_id",
    "object_id_from",
    "object_in",
    "parse_record",
    "route",
    "routes",
    "shipped_catalogue",
    "stamp_seconds",
    "unrouted_deletions",
]
