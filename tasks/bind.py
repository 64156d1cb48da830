"""Subscribe the events that the pipelines need."""

from __future__ import annotations

from celery import shared_task

from b24offline import contract
from b24offline.errors import PortalError, RateLimited
from b24offline.tasks.process import current_runtime


@shared_task(name=contract.TASK_BIND)
def bind(portal: str) -> str:
    """Subscribe the events of one portal. Return what happened."""
    services = current_runtime().services(portal)
    if not services.portal.polled:
        return f"not bound: {services.portal.desired_state}"
    try:
        bound = services.subscriber.sync(services.portal)
    except (PortalError, RateLimited) as error:
        services.lifecycle.note_failure(error)
        return f"not bound: {type(error).__name__}"
    return f"bound {len(bound.added)}, present {bound.present}, refused {len(bound.refused)}"
