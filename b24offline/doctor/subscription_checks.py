"""What a portal queues for us against what the routes want. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.doctor.check import Check, counted, failed, ok, warning

if TYPE_CHECKING:
    from b24offline.delivery import SubscriptionPlan
    from b24offline.events import Portal


def subscription_check(portal: Portal, plan: SubscriptionPlan) -> Check:
    """Return what a plan says."""
    name, wanted = "subscriptions", len(plan.missing) + len(plan.present)
    if portal.ledger_epoch is None:
        what = f"The portal has not been polled yet; its first poll subscribes {counted(wanted, 'event')}."
        return ok(name, what, portal=portal.name)
    if plan.missing:
        return failed(
            name,
            f"{len(plan.missing)} of {wanted} events with a route are not subscribed: {_few(plan.missing)}.",
            f"Running workers subscribe them; to do so now: b24offline bind --portal {portal.name}.",
            portal=portal.name,
        )
    if plan.unrouted:
        return warning(
            name,
            f"Subscribed without a route: {_few(plan.unrouted)}. Their events wait on the portal, nacked.",
            f"Load their pipelines, or: b24offline unbind --unrouted --portal {portal.name}.",
            portal=portal.name,
        )
    return ok(name, f"All {wanted} events with a route are subscribed.", portal=portal.name)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (" and others" if len(names) > 5 else "")
