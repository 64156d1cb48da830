"""Compares portals with the mirror, and runs objects without an event: what was asked for is done in short turns."""

from __future__ import annotations

from functools import partial
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import send_dispatch

SLACK_SECONDS: Final = 0.5
"""A message that comes a moment too early would find the lease, and the sweep would have to ask."""


@shared_task(name=contract.TASK_RECONCILE)
def reconcile(portal: str) -> str:
    """Do one turn of the oldest reconciliation that is due. Return how far it got."""
    runtime = current_runtime()
    turns = runtime.reconcile_turns(portal, dispatch=partial(send_dispatch, portal))
    turn = turns.take(runtime.services(portal).portal)
    if turn.rest_seconds:
        reconcile.apply_async((portal,), countdown=turn.rest_seconds + SLACK_SECONDS)
    return turn.reply


@shared_task(name=contract.TASK_INJECT)
def inject(portal: str) -> str:
    """Run the objects that commands asked for. Return how many."""
    requests = current_runtime().run_requests(portal, dispatch=partial(send_dispatch, portal))
    started = requests.answer_due()
    return "another worker is at it" if started is None else f"injected {started}"
