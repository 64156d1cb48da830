"""Removing a portal: its events are unsubscribed first, or the queue in the portal would grow for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from b24offline.errors import MemberMismatch, PaceExceeded, PortalError, StoreError
from b24offline.portal import Wish
from b24offline.subscriptions import unbind_events

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b24offline.portal import Portal
    from b24offline.runtime import Runtime


def remove(runtime: Runtime, name: str, *, force: bool) -> Iterator[str]:
    """Removes a portal and yields what was done.

    Raises StoreError, nothing changed, where something is open or the portal's events cannot be unsubscribed; with
    ``force`` that is told instead.
    """
    portal = runtime.store.portal(name)
    if not portal.served:
        yield f"Portal {name} was removed already."
        return
    if not force:
        _refuse_undrained(runtime, portal)
    if portal.wish is not Wish.PAUSED:
        # No tick may subscribe again what is unsubscribed next.
        runtime.store.set_wish(name, Wish.PAUSED)
    try:
        if portal.ledger_generation is None:
            yield "Nothing is subscribed by this deployment, it never polled."
        else:
            yield f"{unbind_events(runtime.kit(name).client, portal.connector)} subscriptions of ours were ended."
    except (PortalError, PaceExceeded, MemberMismatch, RedisError) as error:
        if not force:
            raise StoreError(
                f"Portal {name} is not removed, its events are still subscribed. {error} {_FORCE}"
            ) from None
        yield f"Its events are still subscribed: {error} Its queue grows until the application is removed there."
    runtime.store.remove_portal(name)
    try:
        runtime.kit(name).ledger.erase()
    except RedisError:
        yield "The ledger cannot be reached; what it holds of the portal stays until it is emptied."
    yield f"Portal {name} is removed; its tokens are deleted."


def _refuse_undrained(runtime: Runtime, portal: Portal) -> None:
    name = portal.name
    if portal.wish is not Wish.PAUSED:
        raise StoreError(f"Portal {name} is to {_DOING[portal.wish]}. First: b24offline portal drain {name} --wait")
    try:
        ledger = runtime.kit(name).ledger
        left, parked = len(ledger.working_batches()), len(ledger.open_batches())
    except RedisError as error:
        raise StoreError(
            f"Portal {name} is not removed: the ledger cannot be reached ({type(error).__name__}), so nobody knows "
            f"whether something is open. {_FORCE}"
        ) from None
    if left:
        raise StoreError(f"Portal {name} has {left} open batches. First: b24offline portal drain {name} --wait")
    if parked:
        raise StoreError(
            f"Portal {name} has {parked} parked events. Redrive or drop them first: "
            f"b24offline dead list --portal {name}. {_FORCE}"
        )


_DOING: Final = {Wish.RUN: "run", Wish.DRAINING: "drain, and is not done"}
_FORCE: Final = "With --force it is removed all the same."
