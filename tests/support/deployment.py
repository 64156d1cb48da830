"""One portal's services as the product composes them, on the embedded Valkey, with a store in SQLite.

The portal is a `PortalDesk` where no other client is given: the emulator's queue behind the guarded calls, scripted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from b24offline.config import Config, Lane
from b24offline.errors import UnknownAnswer
from b24offline.events import Routes, event_from_record, shipped_catalogue
from b24offline.ledger import MAX_HELD_ATTEMPTS, RECONCILE, BatchKind, Entry, RunRef, SettleLease
from b24offline.reconciliation import SyntheticBatches
from b24offline.runtime import Runtime
from tests.support.core_events import (
    PIPELINE,
    PORTAL,
    PREFIX,
    TIMERS,
    due_times,
    entry_of,
    opened,
    pass_time,
    polled_before,
    ran,
    reserve,
    reserve_nacked,
    run_of,
    run_state,
)
from tests.support.portal_desk import CONNECTOR, PortalDesk, refusal

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

    from b24offline.config import Timers
    from b24offline.events import Event
    from b24offline.rest import PortalClient

LANE = Lane(name="default", batch_size=2)
WIDE_LANE = Lane(name="default", batch_size=50)
UPDATE, GET, LIST = "ONCRMDEALUPDATE", "event.offline.get", "event.offline.list"
SEED = {
    "client_endpoint": "https://acme.example/rest/",
    "auth_url": "https://auth.example/",
    "client_id": "id",
    "client_secret": "secret",
    "connector": CONNECTOR,
}


def passed_on(event: Event) -> object:
    """Stand for a pipeline that nobody calls."""
    return event


def routes_for(*events: str) -> Routes:
    """Return routes that send each of the events through a pipeline of its own; deals through `PIPELINE`."""
    routes = Routes()
    for event in events:
        routes.add(passed_on, (event,), PIPELINE if event == UPDATE else f"for_{event.lower()}")
    return routes


class Deployment:
    """A deployment with one portal, which was polled before unless said otherwise.

    ``variables`` are those of the environment: ``B24_UNROUTED="nack"``. ``handed``: a run that a fixture began.
    """

    handed: RunRef

    def __init__(
        self,
        redis: Redis,
        folder: Path,
        *,
        client: PortalClient | None = None,
        routes: Routes | None = None,
        timers: Timers = TIMERS,
        polled: bool = True,
        **variables: str,
    ) -> None:
        self.redis = redis
        self.desk = PortalDesk()
        self.routes = routes or routes_for(UPDATE)
        address = redis.connection_pool.connection_kwargs
        config = Config.load(
            {
                "B24_REDIS_URL": f"redis://{address['host']}:{address['port']}/0",
                "B24_REDIS_KEY_PREFIX": PREFIX,
                "B24_DATA_DIR": str(folder),
                "B24_UNROUTED": "ack",
                **variables,
            }
        )
        self.runtime = Runtime(config, routes=self.routes)
        self.runtime.timers = timers
        self.store = self.runtime.store
        self.store.portals.seed(PORTAL, **SEED)
        if polled:
            self.store.portals.set_epoch(PORTAL, 1)
        self.services = services = self.runtime.services(PORTAL)
        services.client = client or self.desk
        self.ledger, self.fencing, self.queue = services.ledger, services.fencing, services.queue
        self.poller, self.settler = services.poller, services.settler
        self.dead_letter_queue = services.dead_letter_queue
        self.synthetic = SyntheticBatches(services)
        self.ledger.first_attempt = lambda: 0  # type: ignore[assignment]
        if polled:
            polled_before(redis, self.ledger)

    # -- time and what is due

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def due_seconds(self, member: str) -> float:
        """Return how long until ``run:...`` or ``batch:...`` is due."""
        return due_times(self.redis, self.ledger)[member]

    def until_due(self, run: str) -> None:
        self.later(self.due_seconds(f"run:{run}") + 1)

    @property
    def gaps(self) -> list[int]:
        """Since when changes may have gone unseen, of each reconciliation that was asked for: ms of the ledger."""
        grace_ms = round(self.runtime.grace_seconds * 1000)
        return [body["since_ms"] + grace_ms for body in self.services.requests.waiting(RECONCILE).values()]

    # -- records of the portal

    def changes(self, *deals: str, name: str = UPDATE) -> None:
        for deal in deals:
            self.desk.change(deal, name)

    def nacked(self, *deals: str, name: str = UPDATE) -> None:
        """Change deals, and let all records be nacked."""
        self.changes(*deals, name=name)
        for row in list(self.desk.rows().values()):
            self.desk.queue.mark(self.desk.now, row)

    def lost_reservation(self, *, executed: bool = True) -> str:
        """Reserve by a call whose answer is lost, after or before the portal has executed it. Return the process id.

        The poller does not live to look for it.
        """
        if executed:
            self.desk.lose.append(GET)
        else:
            self.desk.refuse[GET] = refusal(UnknownAnswer, GET)
        self.desk.refuse[LIST] = refusal(UnknownAnswer, LIST)  # else it would be adopted at once
        with pytest.raises(UnknownAnswer):
            self.poller.poll(LANE)
        return max((row.process_id for row in self.desk.rows().values()), default="")

    def adopted(self) -> tuple[str, ...]:
        """Adopt once the lease of a lost call has run out, or where none explains the orphan, a sighting later."""
        self.later(TIMERS.poll_lease_seconds + 1)
        adopted = self.poller.adopt()
        self.later(TIMERS.sighting_seconds + 1)
        return adopted or self.poller.adopt()

    # -- batches and their outcomes

    def batch(self, outcomes: str, *, nacked: bool = False, deals: str = "") -> str:
        """Change a deal for each outcome, reserve them and record: s succeeded, f failed, u unfinished."""
        changed = deals or [str(number) for number in range(1, len(outcomes) + 1)]
        self.nacked(*changed) if nacked else self.changes(*changed)
        return self.reserved(outcomes, nacked=nacked)

    def reserved(self, outcomes: str, *, nacked: bool = False) -> str:
        """Reserve what there is and record outcomes. Return the process id; the calls so far are forgotten."""
        reply = reserve_nacked(self.queue, 1) if nacked else reserve(self.queue)
        assert reply is not None
        events = [event_from_record(PORTAL, record, shipped_catalogue()) for record in reply.records]
        self.ledger.open(reply.process_id, [Entry(event, (PIPELINE,)) for event in events], kind=BatchKind.POLLED)
        handed = {run.run: run.attempt for run in self.ledger.start(reply.process_id)}
        for event, outcome in zip(events, outcomes, strict=True):
            run = f"{event.delivery}/{PIPELINE}"
            if outcome == "s":
                self.ledger.succeed(run, handed[run])
            elif outcome == "f":
                self.ledger.fail(run, handed[run], "Boom", backoff_seconds=1)
        self.desk.calls.clear()
        return reply.process_id

    def outcomes(self, process_id: str) -> dict[int, str]:
        settling = self.ledger.begin_settle(process_id)
        assert isinstance(settling, SettleLease)
        self.ledger.end_settle(settling, (), 1)
        return dict(settling.outcomes)

    # -- runs that are retried

    def retry(self, record: int, deal: str = "1") -> RunRef:
        """Open a retrying batch of one record and begin its run."""
        entry = entry_of(record, deal, nacked=True)
        (handed,) = opened(self.ledger, f"p{record}", entry, kind=BatchKind.RETRYING)
        return ran(self.ledger, handed)

    def newer(self, record: int, deal: str = "1") -> RunRef:
        """Open a batch of a newer, unmarked record of the same message a second later, and begin its run."""
        self.later(1)
        (handed,) = opened(self.ledger, f"p{record}", entry_of(record, deal))
        return ran(self.ledger, handed)

    def fail_once(self, handed: RunRef, reason: str = "ValueError") -> None:
        assert self.ledger.reschedule_run(handed.run, handed.attempt, None, counted=True, reason=reason)

    def use_up(self, handed: RunRef) -> RunRef:
        """Fail a retrying run until the sweep gives it up. Return what it hands to dead-lettering."""
        for number in range(MAX_HELD_ATTEMPTS):
            self.fail_once(handed)
            assert run_state(self.redis, self.ledger, handed.run) == "waiting"
            if number < MAX_HELD_ATTEMPTS - 1:
                self.until_due(handed.run)
                (handed,) = self.ledger.take_overdue().runs
                ran(self.ledger, handed)
        overdue = self.ledger.take_overdue()
        assert overdue.runs == ()
        (exhausted,) = overdue.exhausted
        return exhausted

    def dead_letter(self, handed: RunRef) -> RunRef:
        """Dead-letter a retrying run."""
        exhausted = self.use_up(handed)
        assert self.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
        return exhausted

    def state(self, record: int = 1) -> str | None:
        return run_state(self.redis, self.ledger, run_of(record))
