"""Keeps the subscriptions of one portal as its routes want them: at start, when routes change, and at each look."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from b24offline import keys
from b24offline.delivery.signal_handlers import SignalHandlers
from b24offline.ledger import note_refused
from b24offline.rest import SyncResult, bind_events, check_plan, fingerprint, listed_events, unbind_events

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from b24offline.delivery.portal_context import PortalContext
    from b24offline.events import Portal

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30
REFUSED_SECONDS: Final = 600
"""Until refused events are asked for again: a refusal may pass, and nothing is heard of them meanwhile."""


@dataclass(frozen=True, slots=True)
class SubscriptionPlan:
    """The difference between what a portal queues for us and what the routes want; names of events, sorted.

    Attributes:
        missing: wanted, and in no subscription of the portal.
        present: wanted, and subscribed by somebody: the portal's list does not tell the connector.
        unrouted: subscribed with our connector, and wanted no more.
    """

    missing: tuple[str, ...]
    present: tuple[str, ...]
    unrouted: tuple[str, ...]


def subscription_plan(wanted: Collection[str], listed: Collection[str], ours: Collection[str]) -> SubscriptionPlan:
    """Compare what is wanted, what the portal lists, and what stood with our connector at our last looks. Pure."""
    asked, there = set(wanted), set(listed)
    found = (asked - there, asked & there, (set(ours) & there) - asked)
    return SubscriptionPlan(*(tuple(sorted(names)) for names in found))


class Subscriber:
    """Subscribes the events of one portal."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self.handlers = SignalHandlers(portal)
        self._config = portal.config
        self._redis = portal.redis
        self._ledger = portal.ledger
        self._stem = portal.ledger.stem
        self._key = keys.bound(self._stem)

    def due(self, portal: Portal) -> bool:
        """Return whether to sync now: never synced, other events wanted, or the last look is too old.

        True at most once in `RETRY_SECONDS`, over all workers.
        """
        if not self._config.auto_subscribe or portal.ledger_epoch is None:
            # Before the first poll nobody knows whether the queue is another deployment's.
            return False
        known, fresh = self._redis.mget(self._key, keys.bound(self._stem, "fresh"))
        if fresh and known == self._fingerprint(portal):
            return False
        return bool(self._redis.set(keys.bound(self._stem, "asked"), "1", nx=True, ex=RETRY_SECONDS))

    def sync(self, portal: Portal) -> SyncResult:
        """Check the portal's plan and bind all wanted events, and the address for signals.

        Raise the `PortalError` or `RateLimited` of a call.
        """
        began_ms = self._ledger.now_ms()
        check_plan(self._portal.client, portal.name)
        # A sync that died may have subscribed again what had vanished, before it could note the gap.
        interrupted = not self._redis.set(keys.bound(self._stem, "begun"), "1", nx=True)
        bound = bind_events(self._portal.client, portal.connector, self.wanted)
        note_refused(self._redis, self._ledger, bound.refused)
        present = sorted(set(self.wanted) - set(bound.refused))
        vanished = self._note_look(present, present if interrupted else bound.added, began_ms)
        self._log(portal, bound, vanished & set(bound.added))
        self.handlers.sync()
        self._redis.delete(keys.bound(self._stem, "begun"))
        self._redis.set(self._key, self._fingerprint(portal))
        fresh_seconds = (
            min(REFUSED_SECONDS, self._config.subscription_check_seconds)
            if bound.refused
            else self._config.subscription_check_seconds
        )
        fresh_ms = max(1000, round(fresh_seconds * 1000 * self._config.time_scale))
        self._redis.set(keys.bound(self._stem, "fresh"), "1", px=fresh_ms)
        return bound

    def plan(self) -> SubscriptionPlan:
        """Ask the portal what is subscribed, and compare. Changes nothing. Raise the error of the call."""
        return subscription_plan(self.wanted, listed_events(self._portal.client), self.seen())

    def unsubscribe(self, portal: Portal, names: Collection[str]) -> int:
        """End subscriptions of our connector; return how many there were. What ends so has not vanished."""
        ended = unbind_events(self._portal.client, portal.connector, names)
        look = self._last_look()
        look["names"] = [name for name in look["names"] if name not in names]
        for part in ("since", "unrouted"):
            look[part] = {name: since for name, since in look[part].items() if name not in names}
        self._redis.set(keys.bound(self._stem, "look"), json.dumps(look))
        return ended

    @property
    def wanted(self) -> tuple[str, ...]:
        """The events to subscribe: those of the configuration, else those that have a route."""
        return self._config.events or self._portal.routes.event_names

    def _fingerprint(self, portal: Portal) -> str:
        """Change with what is wanted, and with a new authorization: a new installation begins with none."""
        begun = f"{portal.connector}@{portal.authorized_at.timestamp()}"
        return fingerprint(begun, (*self.wanted, self.handlers.wanted) if self.handlers.wanted else self.wanted)

    def _log(self, portal: Portal, bound: SyncResult, vanished: set[str]) -> None:
        for name, why in bound.refused.items():
            log.error(
                "event cannot be subscribed",
                extra={"portal": portal.name, "event": name, "why": why},
            )
        if vanished:
            extra = {"portal": portal.name, "bound": len(vanished)}
            log.error("subscriptions had vanished and were renewed", extra=extra)
        log.info(
            "subscriptions looked at",
            extra={
                "portal": portal.name,
                "bound": len(bound.added),
                "present": bound.present,
                "refused": len(bound.refused),
            },
        )

    def seen(self) -> dict[str, datetime]:
        """Return the subscriptions of our connector -> since when they were seen to stand; also those without a route.

        As the last look found them, which may be an hour ago.
        """
        look = self._last_look()
        since = look["unrouted"] | {name: look["since"].get(name, look["at_ms"]) for name in look["names"]}
        return {name: datetime.fromtimestamp(ms / 1000, UTC) for name, ms in since.items()}

    def _last_look(self) -> dict[str, Any]:
        known = json.loads(self._redis.get(keys.bound(self._stem, "look")) or "{}")
        return {"at_ms": 0, "names": [], "since": {}, "unrouted": {}, **known}

    def _note_look(self, present: list[str], added: Iterable[str], began_ms: int) -> set[str]:
        """Note which subscriptions stand. Return which added ones stood at the last look, and so had vanished since.

        Their changes went unseen. An added one that did not stand then, as that of a new route, is no loss.
        """
        before = self._last_look()
        if vanished := set(added) & set(before["names"]):
            self._portal.on_gap(int(before["at_ms"]))
        since = dict.fromkeys(present, began_ms) | {
            name: ms for name, ms in before["since"].items() if name in present and name not in added
        }
        # A subscription stays when its route goes; the portal does not tell afterwards whose it is.
        unrouted = before["unrouted"] | before["since"]
        unrouted = {name: ms for name, ms in unrouted.items() if name not in self.wanted}
        look = {"at_ms": began_ms, "names": present, "since": since, "unrouted": unrouted}
        self._redis.set(keys.bound(self._stem, "look"), json.dumps(look))
        return vanished
