"""Go through all portals, for the tick and for the sweep. An error of one portal is logged and stops no other."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.delivery.services import TROUBLE_OF_ONE_PORTAL
from b24offline.delivery.sweeper import is_active, is_quiet
from b24offline.errors import BrokerUnavailable
from b24offline.events import ObservedState
from b24offline.ledger import glances, note_visit, noted_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from b24offline.config import Timers
    from b24offline.delivery.portal_context import Shared
    from b24offline.delivery.services import PortalServices
    from b24offline.events import Portal
    from b24offline.ledger import Glance, Overdue

log = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400
QUIET_VISITS: Final = 50
"""Quiet portals that any sweep may visit."""


@dataclass(frozen=True, slots=True)
class DuePolls:
    """The portals to poll, those whose subscriptions are to be checked before, what to log, and whether a command
    wants a sweep now.
    """

    reply: str
    polls: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    sweep: bool = False


class PortalRounds:
    """Finds out what is due at all portals of a deployment.

    Args:
        shared: what the portals share.
        services: returns what works for a portal.
        due_requests: returns the kinds of requests to work on at a portal.
        log_alarms: logs issues that began or are over.
    """

    def __init__(
        self,
        shared: Shared,
        services: Callable[[str], PortalServices],
        due_requests: Callable[[Portal], Iterable[str]],
        log_alarms: Callable[[], None],
    ) -> None:
        self._config = shared.config
        self._store = shared.store
        self._shared = shared
        self._services = services
        self._due_requests = due_requests
        self._log_alarms = log_alarms

    def take_due_polls(self) -> DuePolls:
        """Return the portals that are due, and plan their next polls."""
        if not self._shared.once_per("tick", self._config.tick_seconds / 2):
            return DuePolls("ticked just now")
        portals = self._store.portals.polled_names()
        if not portals and self._shared.once_per("nothing-to-serve", 60):
            log.warning("no portal to serve: connect one with b24offline auth, or set B24_PORTAL_URL")
        self._shared.schedule.seed(portals)
        if full := noted_broker(self._shared.redis, self._config.redis_key_prefix)[0]:
            # They stay due, and a deep queue does not grow by a poll of each that would find the gate closed.
            return DuePolls(f"nothing polled, the broker is full: {full}", sweep=self._sweep_asked())
        due = self._shared.schedule.take_due(self._config.poll_interval_max_seconds)
        polls: list[str] = []
        subscriptions: list[str] = []
        for name in due:
            try:
                services = self._services(name)
                if services.subscriber.due(services.portal):
                    subscriptions.append(name)
            except TROUBLE_OF_ONE_PORTAL as error:
                log.error("portal skipped by the tick", extra={"portal": name, "why": str(error)})  # noqa: TRY400
            else:
                polls.append(name)
        reply = f"due: {', '.join(due)}" if due else "nothing due"
        return DuePolls(reply, tuple(polls), tuple(subscriptions), self._sweep_asked())

    def _sweep_asked(self) -> bool:
        prefix = self._config.redis_key_prefix
        if not self._shared.redis.getdel(keys.sweep_asked(prefix)):
            return False
        self._shared.redis.delete(keys.once_per(prefix, "sweep"))
        return True

    def sweep(
        self,
        start: Callable[[PortalServices, Overdue], int],
        ask: Callable[[str, str], object],
        idle: Callable[[], bool],
    ) -> str:
        """Look at every portal, and visit those where something waits. Return what was overdue.

        ``start`` sends what is overdue at a portal and returns the number of runs, ``ask`` asks for a kind of work at a
        portal, ``idle`` returns whether no message waits in any queue of steps. `BrokerUnavailable` and an unreachable
        ledger end the sweep.
        """
        if not self._shared.once_per("sweep", self._config.timers.sweep_seconds / 2):
            return "swept just now"
        runs = batches = 0
        visits = self._to_visit()
        none_waits = any(glance.open_work for glance in visits.values()) and idle()
        for name, glance in visits.items():
            try:
                services = self._services(name)
                if glance.open_work:
                    overdue = services.sweeper.take_overdue(idle=none_waits)
                    runs, batches = runs + start(services, overdue), batches + len(overdue.batches)
                    services.sweeper.dead_letter(overdue)
                for work in self._due_work(services, glance):
                    ask(name, work)
            except BrokerUnavailable:
                raise
            except TROUBLE_OF_ONE_PORTAL as error:
                log.error("portal skipped by the sweep", extra={"portal": name, "why": str(error)})  # noqa: TRY400
        if self._shared.once_per("clean", DAY_SECONDS):
            kept = self._config.portal_name
            pruned = self._store.prune(self._config.retention_days, keep=kept)
            log.info("store pruned", extra=pruned._asdict())
        if self._shared.once_per("alarms", self._config.timers.sweep_seconds * 4):
            self._log_alarms()
        return f"overdue: {runs} runs, {batches} batches"

    def _to_visit(self) -> dict[str, Glance]:
        draining = set(self._store.portals.draining_names())
        seen = glances(self._shared.redis, self._config.redis_key_prefix, self._store.portals.names())
        chosen = due_visits(seen, self._config.timers) | draining
        return {name: glance for name, glance in seen.items() if name in chosen}

    def _due_work(self, services: PortalServices, glance: Glance) -> list[str]:
        portal = services.portal
        services.lifecycle.finish_drain(portal, self._config.timers.sweep_seconds)
        # Only polls call a portal that is blocked for overload, once an hour.
        blocked = portal.state is ObservedState.BLOCKED
        looks = () if blocked else services.sweeper.due_looks(portal, glance)
        if looks or glance.busy or is_quiet(glance, self._config.timers):
            note_visit(services.redis, services.ledger.stem, glance, looks)
        return [] if blocked else [*self._due_requests(portal), *looks]


def due_visits(seen: Mapping[str, Glance], timers: Timers) -> set[str]:
    """Return the portals that a sweep visits: those where something waits, and quiet ones whose turn it is. Pure.

    Of the quiet ones that were idle for long those come first that were visited longest ago, and at most twice as many
    as have their turn in a sweep on average: after a start of thousands their looks are spread over half the time
    between two of them.
    """
    waiting, idle = set(), []
    for name, glance in seen.items():
        age_seconds = (glance.now_ms - glance.visited_ms) / 1000
        if not is_quiet(glance, timers) or (is_active(glance, timers) and age_seconds >= timers.sighting_seconds):
            waiting.add(name)
        elif age_seconds >= timers.idle_look_seconds:
            idle.append(name)
    idle.sort(key=lambda name: seen[name].visited_ms)
    most = max(QUIET_VISITS, math.ceil(2 * len(seen) * timers.sweep_seconds / timers.idle_look_seconds))
    return waiting | set(idle[:most])
