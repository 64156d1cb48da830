"""Subscribes the events that the pipelines want, at start and once an hour."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from celery import shared_task

from b24offline import contract
from b24offline.errors import PaceExceeded, PortalError
from b24offline.ledger_notes import note_refused
from b24offline.portal import Portal
from b24offline.reconcile_schedule import ask_after_blindness
from b24offline.route_notes import NOTE_SECONDS, not_everywhere, note_routes
from b24offline.routing import routes
from b24offline.runtime import Runtime
from b24offline.services import PortalKit
from b24offline.settings import config
from b24offline.subscriptions import bind_events, check_plan, fingerprint
from b24offline.tasks.process import runtime

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 30
REFUSED_SECONDS: Final = 600


def _wanted() -> tuple[str, ...]:
    return config.events or routes.event_names


def note_own_routes(here: Runtime) -> None:
    """Tells all workers which events this one has routes for; by each task of the queue that polls come from."""
    note_routes(here.redis, here.config.key_prefix, routes.event_names, NOTE_SECONDS * here.config.time_scale)


def _too_early(here: Runtime, portal: str) -> set[str]:
    """Events that must wait until no worker lives that would acknowledge them without a run.

    Not those that were subscribed before: they are looked after as ever. Not those without a route here.
    """
    subscribed = _last_look(here, portal)["names"]
    new = {event for event in _wanted() if routes.pipelines_for(event) and event not in subscribed}
    seconds = NOTE_SECONDS * here.config.time_scale
    early = not_everywhere(here.redis, here.config.key_prefix, new, seconds) if new else set()
    if early and here.turn("bind-waits", seconds):
        log.warning(
            "events are not subscribed yet, a worker without routes for them was alive",
            extra={"portal": portal, "events": ", ".join(sorted(early)), "within_seconds": seconds},
        )
    return early


def _fingerprint(portal: Portal, events: Iterable[str]) -> str:
    """Changes when other events must be bound, and with a new authorization: a new installation begins with none."""
    return fingerprint(f"{portal.connector}@{portal.authorized_at.timestamp()}", events)


def _key(here: Runtime, portal: str) -> str:
    return f"{here.kit(portal).ledger.stem}:bound"


def bind_if_due(here: Runtime, portal: str) -> bool:
    """Asks for a portal's subscriptions when they were not made, changed, were refused, or not seen for an hour."""
    if not config.auto_bind or here.kit(portal).portal.ledger_generation is None:
        # Before the first poll nobody knows whether the queue is another deployment's.
        return False
    known, fresh = here.redis.mget(_key(here, portal), f"{_key(here, portal)}:fresh")
    if fresh and known == _fingerprint(here.kit(portal).portal, _wanted()):
        return False
    due = set(_wanted()) - _too_early(here, portal)
    if fresh and known == _fingerprint(here.kit(portal).portal, due):
        return False
    if not here.redis.set(f"{_key(here, portal)}:asked", "1", nx=True, ex=RETRY_SECONDS):
        return False
    bind.delay(portal)
    return True


def _seen(here: Runtime, kit: PortalKit, seen: tuple[str, ...], added: set[str], began_ms: int) -> None:
    """Notes which subscriptions stand. Of those that stood before and had gone, changes went unseen since that look."""
    before = _last_look(here, kit.portal.name)
    if added & set(before["names"]):
        ask_after_blindness(here, kit, int(before["at_ms"]))
    look = {"at_ms": began_ms, "names": sorted(seen)}
    here.redis.set(f"{_key(here, kit.portal.name)}:look", json.dumps(look))


def _last_look(here: Runtime, portal: str) -> dict[str, Any]:
    look: dict[str, Any] = json.loads(here.redis.get(f"{_key(here, portal)}:look") or '{"names": []}')
    return look


@shared_task(name=contract.TASK_BIND)
def bind(portal: str) -> str:
    """Checks the plan and binds the events of one portal. Answers what happened."""
    here = runtime()
    kit = here.kit(portal)
    if not kit.portal.polled:
        return f"not bound: {kit.portal.wish}"
    note_own_routes(here)
    wanted, began_ms, key = set(_wanted()) - _too_early(here, portal), kit.ledger.now_ms(), _key(here, portal)
    try:
        check_plan(kit.client, portal)
        # Who dies below has perhaps bound what had vanished, and nobody could tell any more.
        cut_off = not here.redis.set(f"{key}:begun", "1", nx=True)
        bound = bind_events(kit.client, kit.portal.connector, wanted)
    except (PortalError, PaceExceeded) as error:
        from b24offline.tasks.poll import note_state  # noqa: PLC0415 - poll asks for binds

        note_state(here, portal, error)
        return f"not bound: {type(error).__name__}"
    for name, why in bound.refused.items():
        log.error("event cannot be bound", extra={"portal": portal, "event": name, "why": why})
    note_refused(here.redis, kit.ledger, bound.refused)
    print_now = _fingerprint(kit.portal, wanted)
    if bound.added and here.redis.get(key) == print_now:
        log.error("subscriptions had vanished and are bound again", extra={"portal": portal, "bound": len(bound.added)})
    standing = tuple(wanted - set(bound.refused))
    _seen(here, kit, standing, set(standing if cut_off else bound.added), began_ms)
    here.redis.delete(f"{key}:begun")
    here.redis.set(key, print_now)
    # One that was refused may only have been unlucky, and is not heard of until it is bound.
    fresh_seconds = min(REFUSED_SECONDS, config.bind_look_seconds) if bound.refused else config.bind_look_seconds
    here.redis.set(f"{key}:fresh", "1", px=max(1000, round(fresh_seconds * 1000 * config.time_scale)))
    log.info(
        "subscriptions looked at",
        extra={"portal": portal, "bound": len(bound.added), "present": bound.present, "refused": len(bound.refused)},
    )
    return f"bound {len(bound.added)}, present {bound.present}, refused {len(bound.refused)}"
