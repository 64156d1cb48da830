"""Requests of commands and of the daily schedule: compare a portal with the mirror, run objects without an event."""

from __future__ import annotations

from functools import partial
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.tasks.process import current_runtime
from b24offline.tasks.publish import send_dispatch

SLACK_SECONDS: Final = 0.5
"""Added to the rest between two turns, so that the message does not find the lease of the turn before."""


@shared_task(name=contract.TASK_RECONCILE)
def reconcile(portal: str) -> str:
    """Do one turn of the oldest due reconciliation. Return how far it got."""
    runtime = current_runtime()
    runtime.queued.take(contract.TASK_RECONCILE, portal)
    turns = runtime.reconcile_turns(portal, dispatch=partial(send_dispatch, portal))
    turn = turns.take(runtime.services(portal).portal)
    if turn.rest_seconds:
        reconcile.apply_async((portal,), countdown=turn.rest_seconds + SLACK_SECONDS)
    return turn.reply


@shared_task(name=contract.TASK_INJECT)
def inject(portal: str) -> str:
    """Run the objects that commands asked for. Return how many."""
    current_runtime().queued.take(contract.TASK_INJECT, portal)
    requests = current_runtime().run_requests(portal, dispatch=partial(send_dispatch, portal))
    started = requests.answer_due()
    return "another worker is at it" if started is None else f"injected {started}"
