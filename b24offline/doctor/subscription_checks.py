"""What a portal queues for us against what the routes want."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.doctor.check import Check, failed, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection

    from b24offline.events import Portal


def subscription_check(
    portal: Portal, wanted: Collection[str], listed: Collection[str], ours: Collection[str]
) -> Check:
    """Compare names of events. Pure.

    Args:
        portal: whose subscriptions they are.
        wanted: events that have a route, or of B24_EVENTS.
        listed: offline events that the portal lists, of all connectors: it does not tell which.
        ours: events that stood with our connector when the workers looked last.
    """
    name = "subscriptions"
    if portal.ledger_epoch is None:
        what = f"The portal was not polled yet; the first poll subscribes {len(wanted)} events."
        return ok(name, what, portal=portal.name)
    if missing := sorted(set(wanted) - set(listed)):
        return failed(
            name,
            f"{len(missing)} of {len(wanted)} events with a route are not subscribed: {', '.join(missing[:5])}.",
            f"While workers run they subscribe them; at once: b24offline bind --portal {portal.name}.",
            portal=portal.name,
        )
    if unrouted := sorted((set(ours) & set(listed)) - set(wanted)):
        return warning(
            name,
            f"Subscribed without a route: {', '.join(unrouted[:5])}. Their events wait on the portal, nacked.",
            f"Load their pipelines, or: b24offline unbind --portal {portal.name} --unrouted.",
            portal=portal.name,
        )
    return ok(name, f"All {len(wanted)} events with a route are subscribed.", portal=portal.name)
