"""The control API: what a test learns about a portal."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from b24offline.emulator.state import ENTITIES

if TYPE_CHECKING:
    from b24offline.emulator.server.control import Handler
    from b24offline.emulator.server.world import World
    from b24offline.emulator.state import Journal, Portal

PAGE: Final = 5000


def state(world: World, portal: Portal, _query: Any) -> Any:
    """Return counts of records, objects, requests and refreshes, bucket, execution time, bindings, clock."""
    with portal.lock:
        portal.expire()
        now = portal.clock.now()
        return {
            "now": now,
            "rate": portal.clock.rate,
            **asdict(portal.queue.counts(now)),
            "objects": portal.objects.counts(),
            "changes": len(portal.changes),
            "requests": dict(portal.calls),
            "token_refreshes": portal.tokens.refreshes,
            "bucket": {
                "level": portal.bucket.level(now),
                "refused": portal.bucket.refused,
                "drain": portal.bucket.drain,
                "holds": portal.bucket.holds,
                "off": portal.bucket.off,
            },
            "operating": portal.operating.by_method(now),
            "licence": asdict(portal.licence),
            "account": asdict(portal.account),
            "bindings": [asdict(binding) for binding in portal.subscriptions.all()],
            "push": asdict(world.sites[portal.name].push.counts),
            "late_calls": world.sites[portal.name].later.waiting,
            "traffic": world.sites[portal.name].traffic.report(),
            "seq": portal.sequence.last,
        }


def records(_world: World, portal: Portal, _query: Any) -> Any:
    """Return every record of every connector, with all its fields."""
    with portal.lock:
        portal.expire()
        return {"records": [asdict(record) for record in portal.queue.records()]}


def objects(_world: World, portal: Portal, query: Any) -> Any:
    """Return objects of `entity` (or all) as their get method returns them, deleted ones included.

    With `since_changes=1` only those that changed after the start.
    """
    entity, since = query.get("entity"), query.get("since_changes") in ("1", "true")
    if entity is not None and entity not in ENTITIES:
        raise ValueError(f"entity is one of {', '.join(ENTITIES)}, not {entity!r}")
    with portal.lock:
        return {
            "objects": [
                {
                    "entity": stored.entity,
                    "id": stored.id,
                    "deleted": stored.deleted,
                    "revision": stored.revision,
                    "changed": stored.changed,
                    "data": stored.data,
                }
                for name in ([entity] if entity else ENTITIES)
                for stored in portal.objects.everything(name)
                if stored.changed or not since
            ]
        }


def history(_world: World, portal: Portal, query: Any) -> Any:
    """Return what happened to records, in order, after number `after`; pages of `limit` (5000)."""
    return _page(portal, portal.history, query)


def changes(_world: World, portal: Portal, query: Any) -> Any:
    """Return what happened to objects, in order, after number `after`."""
    return _page(portal, portal.changes, query)


def requests(_world: World, portal: Portal, query: Any) -> Any:
    """Return the newest calls, in order, after number `after`."""
    return _page(portal, portal.requests, query)


def faults(world: World, portal: Portal, _query: Any) -> Any:
    """Return the fault plans with how often they fired."""
    return {"faults": world.sites[portal.name].faults.as_json()}


def traffic(world: World, portal: Portal, _query: Any) -> Any:
    """Return the stream of changes."""
    return world.sites[portal.name].traffic.report()


def portals(world: World, _portal: Portal, _query: Any) -> Any:
    """Return how an application reaches the portals, with the current refresh tokens."""
    return world.hello()


def quirks(_world: World, portal: Portal, _query: Any) -> Any:
    """Return the choices where the vendor is silent."""
    return asdict(portal.quirks)


READERS: Final[dict[tuple[str, str], Handler]] = {
    ("GET", "state"): state,
    ("GET", "records"): records,
    ("GET", "objects"): objects,
    ("GET", "history"): history,
    ("GET", "changes"): changes,
    ("GET", "requests"): requests,
    ("GET", "faults"): faults,
    ("GET", "traffic"): traffic,
    ("GET", "portals"): portals,
    ("GET", "quirks"): quirks,
}


def _page(portal: Portal, journal: Journal, query: Any) -> Any:
    after, limit = int(query.get("after", 0)), int(query.get("limit", PAGE))
    with portal.lock:
        portal.expire()
        entries = journal.page(after, limit)
    return {
        "entries": entries,
        "after": entries[-1]["seq"] if entries else after,
        "more": len(entries) == limit,
    }
