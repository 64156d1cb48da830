"""What a portal's answers say about whether it can be served. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from b24offline.doctor.check import Check, failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from b24offline.events import Catalogue
    from b24offline.rest import PortalFacts

CLOCK_SECONDS: Final = 60.0
"""Clocks that differ by less do no harm: what is compared across machines has wider bounds."""
_SAME_SCOPE: Final = {"task": frozenset({"task", "tasks"})}
_NO_SCOPE: Final = frozenset({"", "basic"})


def needed_scopes(catalogue: Catalogue, events: Iterable[str]) -> frozenset[str]:
    """Return the scopes that an application needs to subscribe these events and to read their objects."""
    kinds = (catalogue.lookup(event) for event in events)
    return frozenset(kind.scope for kind in kinds if kind) - _NO_SCOPE


def portal_checks(facts: PortalFacts, scopes: frozenset[str], now: datetime, portal: str) -> Iterator[Check]:
    """Yield a check for each thing that a portal must offer. ``scopes`` are those that the routes need."""
    for check in (
        _application(facts),
        _administrator(facts),
        _plan(facts),
        _scopes(facts, scopes),
        _methods(facts),
        _clock(facts, now),
    ):
        yield replace(check, portal=portal)


def _application(facts: PortalFacts) -> Check:
    name = "application"
    if facts.installed is None:
        why = facts.errors.get("app.info")
        if why is not None and why.code == "ACCESS_DENIED":
            return failed(
                name,
                "The token does not belong to an application.",
                "Use a local application with OAuth, not a webhook: b24offline auth PORTAL-ADDRESS.",
            )
        return _unanswered(name, facts, "app.info")
    if not facts.installed:
        return failed(
            name,
            "Its installation is not finished, so the portal sends it no events.",
            "Open it once in the portal. An application without an interface: tick 'Uses API only' in its settings.",
        )
    return ok(name, "It is installed.")


def _administrator(facts: PortalFacts) -> Check:
    name = "administrator"
    if facts.administrator is None:
        return _unanswered(name, facts, "profile")
    if not facts.administrator:
        return failed(
            name,
            "The user who authorized the application is not an administrator of the portal.",
            "Make that user an administrator, or let one open the link of: b24offline auth PORTAL-ADDRESS.",
        )
    return ok(name, "The user who authorized is an administrator.")


def _plan(facts: PortalFacts) -> Check:
    name = "plan"
    if facts.missing_features is None:
        return _unanswered(name, facts, "feature.get")
    if facts.missing_features:
        return failed(
            name,
            f"The portal's plan does not include {' and '.join(facts.missing_features)}.",
            "The portal's administrator must choose a plan that does; without it events cannot be kept safely.",
        )
    return ok(name, "The plan includes the offline queue and connectors.")


def _scopes(facts: PortalFacts, needed: frozenset[str]) -> Check:
    name = "scopes"
    if facts.scopes is None:
        return _unanswered(name, facts, "scope")
    missing = sorted(scope for scope in needed if not _SAME_SCOPE.get(scope, frozenset({scope})) & facts.scopes)
    if missing:
        return warning(
            name,
            f"The application lacks {', '.join(missing)}, which the routed events need.",
            "Add them in the application's settings, then authorize again: b24offline auth PORTAL-ADDRESS.",
        )
    return ok(name, f"The application has what the routes need: {', '.join(sorted(needed)) or 'nothing'}.")


def _methods(facts: PortalFacts) -> Check:
    if facts.missing_methods:
        return failed(
            "methods",
            f"The portal does not offer {', '.join(facts.missing_methods)}.",
            "Check the application's scopes and the portal's version.",
        )
    return ok("methods", "All methods that are called are available.")


def _clock(facts: PortalFacts, now: datetime) -> Check:
    name = "portal clock"
    if facts.clock is None:
        return _unanswered(name, facts, "server.time")
    seconds = (facts.clock - now).total_seconds()
    if abs(seconds) > CLOCK_SECONDS:
        return warning(
            name,
            f"It differs from this machine's by {seconds:+.0f} s.",
            "Set up time synchronisation on this machine.",
        )
    return ok(name, f"It differs from this machine's by {abs(seconds):.0f} s.")


def _unanswered(name: str, facts: PortalFacts, method: str) -> Check:
    why = facts.errors.get(method)
    return skipped(name, f"The portal did not say: {why}" if why else "The portal did not say.")
