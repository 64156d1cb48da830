"""Compares portals with the mirror, and runs objects without an event: what was asked for is done in short turns."""

from __future__ import annotations

from functools import partial
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.reconciliation import RECONCILE, RUN
from b24offline.tasks.process import runtime
from b24offline.tasks.publish import send_dispatch

SLACK_SECONDS: Final = 0.5
"""A message that comes a moment too early would find the lease, and the sweep would have to ask."""


def ask_if_due(portal: str) -> None:
    """For the sweep: asks for a turn of what waits to be done, and for the daily reconciliation when it is time."""
    here = runtime()
    due = here.reconcile_schedule(portal).due_kinds(here.kit(portal).portal)
    for kind, task in ((RUN, inject), (RECONCILE, reconcile)):
        if kind in due:
            task.delay(portal)


@shared_task(name=contract.TASK_RECONCILE)
def reconcile(portal: str) -> str:
    """Does one turn of the oldest reconciliation that is due. Answers how far it got."""
    here = runtime()
    turns = here.reconcile_turns(portal, dispatch=partial(send_dispatch, portal))
    turn = turns.take(here.kit(portal).portal)
    if turn.rest_seconds:
        reconcile.apply_async((portal,), countdown=turn.rest_seconds + SLACK_SECONDS)
    return turn.reply


@shared_task(name=contract.TASK_INJECT)
def inject(portal: str) -> str:
    """Runs the objects that commands asked for. Answers how many."""
    requests = runtime().run_requests(portal, dispatch=partial(send_dispatch, portal))
    started = requests.answer_due()
    return "another worker is at it" if started is None else f"injected {started}"
