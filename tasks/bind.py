"""Subscribes the events that the pipelines want, at start and once a day."""

from __future__ import annotations

import logging
from typing import Final

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError
from b24offline.portal import Portal
from b24offline.routing import routes
from b24offline.runtime import Runtime
from b24offline.subscriptions import bind_events, check_plan, fingerprint
from settings import config
from tasks.process import runtime

log = logging.getLogger(__name__)

DAY_SECONDS: Final = 86_400
RETRY_SECONDS: Final = 30
REFUSED_SECONDS: Final = 600


def _wanted() -> tuple[str, ...]:
    return config.events or routes.event_names


def _fingerprint(portal: Portal) -> str:
    """Changes when other events must be bound, and with a new authorization: a new installation begins with none."""
    return fingerprint(f"{portal.connector}@{portal.authorized_at.timestamp()}", _wanted())


def _key(here: Runtime, portal: str) -> str:
    return f"{here.kit(portal).ledger.stem}:bound"


def bind_if_due(here: Runtime, portal: str) -> bool:
    """Asks for a portal's subscriptions when they were not made, changed, were refused, or are a day old."""
    if not config.auto_bind:
        return False
    known, fresh = here.redis.mget(_key(here, portal), f"{_key(here, portal)}:fresh")
    if fresh and known == _fingerprint(here.kit(portal).portal):
        return False
    if not here.redis.set(f"{_key(here, portal)}:asked", "1", nx=True, ex=RETRY_SECONDS):
        return False
    bind.delay(portal)
    return True


@shared_task(name=contract.TASK_BIND)
def bind(portal: str) -> str:
    """Checks the plan and binds the events of one portal. Answers what happened."""
    here = runtime()
    kit = here.kit(portal)
    if not kit.portal.polled:
        return f"not bound: {kit.portal.wish}"
    wanted = _wanted()
    try:
        check_plan(kit.client, portal)
        bound = bind_events(kit.client, kit.portal.connector, wanted)
    except (PortalError, PaceExceeded) as error:
        from tasks.poll import note_state  # noqa: PLC0415 - poll asks for binds

        note_state(here, portal, error)
        return f"not bound: {type(error).__name__}"
    for name, why in bound.refused.items():
        log.error("event cannot be bound", extra={"portal": portal, "event": name, "why": why})
    key, print_now = _key(here, portal), _fingerprint(kit.portal)
    if bound.added and here.redis.get(key) == print_now:
        log.error("subscriptions had vanished and are bound again", extra={"portal": portal, "bound": len(bound.added)})
    here.redis.set(key, print_now)
    # One that was refused may only have been unlucky, and is not heard of until it is bound.
    here.redis.set(f"{key}:fresh", "1", ex=REFUSED_SECONDS if bound.refused else DAY_SECONDS)
    log.info(
        "subscriptions looked at",
        extra={"portal": portal, "bound": len(bound.added), "present": bound.present, "refused": len(bound.refused)},
    )
    return f"bound {len(bound.added)}, present {bound.present}, refused {len(bound.refused)}"
