"""Go through all portals, for the tick and for the sweep. An error of one portal is logged and stops no other."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.delivery.services import TROUBLE_OF_ONE_PORTAL
from b24offline.errors import BrokerUnavailable
from b24offline.events import ObservedState
from b24offline.ledger import noted_broker, with_open_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from b24offline.delivery.portal_context import Shared
    from b24offline.delivery.services import PortalServices
    from b24offline.events import Portal
    from b24offline.ledger import Overdue

log = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400


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
            log.warning("no portal to serve: set B24_PORTAL_URL, or add one with b24offline portal add")
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
        """Look at every portal once. Return what was overdue.

        ``start`` sends what is overdue at a portal and returns the number of runs, ``ask`` asks for a kind of work at a
        portal, ``idle`` returns whether no message waits in any queue of steps. `BrokerUnavailable` and an unreachable
        ledger end the sweep.
        """
        if not self._shared.once_per("sweep", self._config.timers.sweep_seconds / 2):
            return "swept just now"
        runs = batches = 0
        names = self._store.portals.names()
        working = with_open_work(self._shared.redis, self._config.redis_key_prefix, names)
        none_waits = bool(working) and idle()
        for name in names:
            try:
                services = self._services(name)
                if name in working:
                    overdue = services.sweeper.take_overdue(idle=none_waits)
                    runs, batches = runs + start(services, overdue), batches + len(overdue.batches)
                    services.sweeper.dead_letter(overdue)
                for work in self._due_work(services):
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

    def _due_work(self, services: PortalServices) -> list[str]:
        portal = services.portal
        services.lifecycle.finish_drain(portal, self._config.timers.sweep_seconds)
        if portal.state is ObservedState.BLOCKED:
            # Only polls call a portal that is blocked for overload, once an hour.
            return []
        return [*self._due_requests(portal), *services.sweeper.due_looks(portal)]
