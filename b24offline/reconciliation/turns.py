"""Works on the reconciliations of one portal, in short turns that leave half of its rate to polls and settling.

A turn makes a few calls and writes down how far it got, so that another worker continues after a death.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import LockError

from b24offline.delivery import uncounted_wait_seconds
from b24offline.errors import PortalError, RateLimited
from b24offline.ledger import RECONCILE, last_reconciled, save_reconciled
from b24offline.reconciliation.history import ended
from b24offline.reconciliation.reconciler import Job
from b24offline.reconciliation.schedule import BY_HAND
from b24offline.reconciliation.synthetic import SyntheticBatches

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.lock import Lock

    from b24offline.delivery import PortalServices
    from b24offline.events import Portal
    from b24offline.ledger import Body
    from b24offline.reconciliation.reconciler import Reconciler
    from b24offline.reconciliation.schedule import ReconcileSchedule

log = logging.getLogger(__name__)

STEPS_A_TURN: Final = 10
"""Pages looked at in one turn."""
LONGEST_REST_SECONDS: Final = 60.0
LEASES: Final = 5
"""Settle leases that one step may take: it may have to read the queue's list to its end, at the portal's rate."""
LOGGED: Final = ("compared", "missed", "gone", "fresh", "in_work", "by_entity", "not_comparable", "why")
NOT_SHOWN: Final = ("todo", "after", "pending")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn came to. ``rest_seconds``: when the next turn is to be taken; 0.0 when nothing asks for one."""

    reply: str
    rest_seconds: float = 0.0


class ReconcileTurns:
    """Takes turns at the oldest reconciliation of one portal that is due.

    ``reconciler`` makes what does the steps of one turn. ``dispatch`` is called with the id of each opened batch.
    """

    def __init__(
        self,
        services: PortalServices,
        schedule: ReconcileSchedule,
        reconciler: Callable[[], Reconciler],
        dispatch: Callable[[str], object],
    ) -> None:
        self._redis = services.redis
        self._ledger = services.ledger
        self._requests = services.requests
        self._lifecycle = services.lifecycle
        self._synthetic = SyntheticBatches(services)
        self._schedule = schedule
        self._reconciler = reconciler
        self._dispatch = dispatch
        self._timers = services.timers
        self._rest_seconds = min(LONGEST_REST_SECONDS, STEPS_A_TURN / services.config.requests_per_second)
        self._max_open_batches = services.config.max_in_flight_batches

    def take(self, portal: Portal) -> Turn:
        """Take one turn, alone among all workers."""
        lease = self._requests.lease(RECONCILE, LEASES * self._timers.settle_lease_seconds)
        if not lease.acquire():
            return Turn("another worker is at it, or the portal is left alone for a while")
        turn = Turn("nothing to reconcile")
        try:
            for number, body in self._requests.due(RECONCILE).items():
                if portal.polled or body["why"] == BY_HAND:
                    turn = self._work(portal, number, body, lease)
                    break
            if turn.rest_seconds:
                # Kept meanwhile: each sweep asks for a turn, and those would come in between.
                lease.extend(turn.rest_seconds, replace_ttl=True)
            else:
                lease.release()
        except LockError:
            # Another worker has it by now, and continues from what was saved last.
            log.warning("reconciliation: lease lost, another worker continues", extra={"portal": portal.name})
            return Turn(turn.reply)
        return turn

    def _work(self, portal: Portal, number: str, body: Body, lease: Lock) -> Turn:
        if self._synthetic.open_batches() >= self._max_open_batches:
            return Turn("waits until the objects it found have run")
        job = Job.from_body(body)

        def save() -> None:
            lease.reacquire()
            self._requests.save(number, {**body, **job.body()})

        try:
            self._advance(job, number, save)
        except (PortalError, RateLimited) as error:
            wait = uncounted_wait_seconds(error, self._timers, time.time()) or self._timers.redrive_backoff_seconds[0]
            if isinstance(error, PortalError):
                self._lifecycle.note_failure(error)
            body |= {"not_before_ms": self._ledger.now_ms() + round(wait * 1000), "later": str(error)}
            save()
            return Turn(f"later: {type(error).__name__}")
        if job.done:
            self._finish(portal, number, job)
            return Turn(f"compared {job.compared}, missed {job.missed}, gone {job.gone}")
        return Turn(f"compared {job.compared} so far", self._rest_seconds)

    def _advance(self, job: Job, number: str, save: Callable[[], None]) -> None:
        reconciler = self._reconciler()
        if not job.until_ms:
            reconciler.begin(job)
            save()
        for _ in range(STEPS_A_TURN):
            if job.pending:
                # Before anything else, so that a death in between runs the same objects once more at worst.
                process_id = reconciler.run_pending(job, number)
                save()
                if process_id is not None:
                    self._dispatch(process_id)
            if not job.todo:
                break
            reconciler.step(job)
            save()

    def _finish(self, portal: Portal, number: str, job: Job) -> None:
        shown = {name: value for name, value in job.body().items() if name not in NOT_SHOWN}
        if not job.dry_run:
            begin_ms = self._schedule.begin_ms(portal)
            last = last_reconciled(self._redis, self._ledger.stem)
            save_reconciled(self._redis, self._ledger.stem, ended(job, last, self._ledger.now_ms(), begin_ms))
        self._requests.complete(number, {"state": "done", **shown})
        extra = {"portal": portal.name, **{name: shown[name] for name in LOGGED}}
        if (job.missed or job.gone) and not job.dry_run:
            log.error("changes whose events never came were found and are run", extra=extra)
        else:
            log.info("reconciled", extra=extra)
