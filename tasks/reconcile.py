"""Compares portals with the mirror, and runs objects without an event: what was asked for is done in short turns.

Requests wait in the ledger. A turn makes a few calls, writes down how far it got, and asks for the next turn after as
much time as its calls are worth at the portal's pace, so that half of the pace is left to polls and settling.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from celery import shared_task
from redis.exceptions import LockError

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError
from b24offline.event import ObjectKey
from b24offline.injection import event_fits, injected, update_events
from b24offline.lanes import LOCAL_LANE
from b24offline.reconcile_schedule import BY_HAND, RECONCILE, RUN
from b24offline.reconciled import note_reconciled
from b24offline.reconciliation import Job
from b24offline.request_box import Body
from b24offline.retry_policy import uncounted_wait_seconds
from b24offline.routing import routes
from b24offline.runtime import Runtime
from b24offline.services import PortalKit
from b24offline.settings import config
from b24offline.tasks.process import runtime
from b24offline.tasks.publishing import queue_of

log = logging.getLogger(__name__)

STEPS_A_TURN: Final = 10
"""Pages looked at in one turn."""
LEASES: Final = 5
"""Settle leases that one step may take: it may have to read the queue's list to its end, at the portal's pace."""
SLACK_SECONDS: Final = 0.5
"""A message that comes a moment too early would find the lease, and the sweep would have to ask."""


def ask_if_due(here: Runtime, kit: PortalKit) -> None:
    """For the sweep: asks for a turn of what waits to be done, and for the daily reconciliation when it is time."""
    due = kit.requests.due_kinds()
    for kind, task in ((RUN, inject), (RECONCILE, reconcile)):
        if kind in due:
            task.delay(kit.portal.name)
    if RECONCILE not in due:
        here.reconcile_schedule(kit.portal.name).ask_if_due(kit.portal)


@shared_task(name=contract.TASK_RECONCILE)
def reconcile(portal: str) -> str:
    """Does one turn of the oldest reconciliation that is due. Answers how far it got."""
    here = runtime()
    kit = here.kit(portal)
    lease = kit.requests.lease(RECONCILE, LEASES * config.timers.settle_lease_seconds)
    if not lease.acquire():
        return "another worker is at it, or the portal is left alone for a while"
    told, rest = "nothing to reconcile", 0.0
    try:
        for number, body in kit.requests.due(RECONCILE).items():
            if kit.portal.polled or body["why"] == BY_HAND:
                told, rest = _turn(here, kit, number, body, lease)
                break
        if rest:
            # Kept meanwhile: each sweep asks for a turn, and those would come in between.
            lease.extend(rest, replace_ttl=True)
            reconcile.apply_async((portal,), countdown=rest + SLACK_SECONDS)
        else:
            lease.release()
    except LockError:
        # Somebody else has it by now, and goes on from what was written down last.
        log.warning("reconciliation took longer than its lease", extra={"portal": portal})
    return told


def _turn(here: Runtime, kit: PortalKit, number: str, body: Body, lease: Any) -> tuple[str, float]:
    """Answers how far it got, and how long the portal is left alone before the next turn."""
    box, portal = kit.requests, kit.portal.name
    job = Job.from_body(body)

    def save() -> None:
        lease.reacquire()
        box.save(number, {**body, **job.body()})

    if here.injector(portal).open_batches() >= config.max_open_batches:
        return "waits for what was injected", 0.0
    worker = here.reconciler(portal)
    try:
        if not job.until_ms:
            worker.begin(job)
            save()
        for _ in range(STEPS_A_TURN):
            if job.pending:
                # Before anything else, so that a death in between injects the same objects once more at worst.
                opened = worker.inject(job, number)
                save()
                _dispatch(portal, opened)
            if not job.todo:
                break
            worker.step(job)
            save()
    except (PortalError, PaceExceeded) as error:
        wait = uncounted_wait_seconds(error, config.timers, time.time()) or config.timers.held_backoff_seconds[0]
        if isinstance(error, PortalError):
            kit.lifecycle.note_failure(error)
        body |= {"not_before_ms": kit.ledger.now_ms() + round(wait * 1000), "later": str(error)}
        save()
        return f"later: {type(error).__name__}", 0.0
    if job.done:
        _end(here, kit, number, job)
        return f"compared {job.compared}, missed {job.missed}, gone {job.gone}", 0.0
    return f"compared {job.compared} so far", min(60.0, STEPS_A_TURN / config.requests_per_second)


def _end(here: Runtime, kit: PortalKit, number: str, job: Job) -> None:
    shown = {name: value for name, value in job.body().items() if name not in ("todo", "after", "pending")}
    if not job.dry_run:
        note_reconciled(
            here.redis,
            kit.ledger.stem,
            job,
            kit.ledger.now_ms(),
            here.reconcile_schedule(kit.portal.name).begin_ms(kit.portal),
        )
    kit.requests.close(number, {"state": "done", **shown})
    told = ("compared", "missed", "gone", "fresh", "in_work", "by_entity", "not_comparable", "why")
    numbers = {name: shown[name] for name in told}
    if (job.missed or job.gone) and not job.dry_run:
        log.error(
            "changes whose events never came were found and are run", extra={"portal": kit.portal.name, **numbers}
        )
    else:
        log.info("reconciled", extra={"portal": kit.portal.name, **numbers})


@shared_task(name=contract.TASK_INJECT)
def inject(portal: str) -> str:
    """Runs the objects that commands asked for. Answers how many."""
    kit = runtime().kit(portal)
    lease = kit.requests.lease(RUN, config.timers.settle_lease_seconds)
    if not lease.acquire():
        return "another worker is at it"
    started = 0
    try:
        for number, body in kit.requests.due(RUN).items():
            lease.reacquire()
            answer = _injected(kit, number, body)
            kit.requests.close(number, answer)
            started += answer["state"] == "done"
        lease.release()
    except LockError:
        log.warning("injection took longer than its lease", extra={"portal": portal})
    return f"injected {started}"


def _injected(kit: PortalKit, number: str, body: Body) -> dict[str, Any]:
    key = ObjectKey(kit.portal.name, str(body["entity"]), str(body["object_id"]))
    catalogue = runtime().catalogue
    name = str(body["event"] or next(update_events(key.entity, key.object_id, catalogue, routes), "")).upper()
    if not name:
        return _refused(f"no update event of {key.entity!r} has a route for such an id: name one with --event")
    if not event_fits(name, key.object_id, key.entity, catalogue):
        return _refused(f"{name} is no event of {key}")
    pipelines = routes.pipelines_for(name)
    if body["pipeline"]:
        pipelines = tuple(one for one in pipelines if one == body["pipeline"])
    if not pipelines:
        return _refused(f"{name} has no route to {body['pipeline'] or 'a pipeline'}; B24_PIPELINES says what is loaded")
    process_id = runtime().injector(kit.portal.name).inject(number, [(name, key, str(body["stamp"]), pipelines)])
    _dispatch(kit.portal.name, process_id)
    events = list(kit.ledger.events(f"local:{number}").values())
    told = injected(events[0]) if events else {"event": name, "object": str(key), "record_id": 0}
    return {"state": "done", "pipelines": list(pipelines), **told}


def _refused(why: str) -> dict[str, Any]:
    return {"state": "refused", "why": why}


def _dispatch(portal: str, process_id: str | None) -> None:
    if process_id is not None:
        reconcile.app.send_task(contract.TASK_DISPATCH, args=(portal, process_id), queue=queue_of(LOCAL_LANE))
