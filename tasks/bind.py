"""Subscribes the events that the pipelines want, at start and once an hour."""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError
from b24offline.tasks.process import runtime


@shared_task(name=contract.TASK_BIND)
def bind(portal: str) -> str:
    """Checks the plan and binds the events of one portal. Answers what happened."""
    kit = runtime().kit(portal)
    if not kit.portal.polled:
        return f"not bound: {kit.portal.wish}"
    try:
        bound = kit.subscriber.sync(kit.portal)
    except (PortalError, PaceExceeded) as error:
        kit.lifecycle.note_failure(error)
        return f"not bound: {type(error).__name__}"
    return f"bound {len(bound.added)}, present {bound.present}, refused {len(bound.refused)}"
