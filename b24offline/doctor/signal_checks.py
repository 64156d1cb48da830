"""Whether a portal's signals come: what is bound, and when the last one was heard. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from b24offline.doctor.check import Check, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Collection

    from b24offline.ledger import Signals

_NAME = "signals"
_START = "Check that b24offline push runs, and that the address leads to it from the internet."


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What is known of a portal's signals.

    Attributes:
        address: `B24_PUSH_URL`; "" where signals are not wanted.
        missing: events that should be bound to it, and are not.
        signals: when they were heard and missed.
        now_ms: the ledger's clock.
    """

    address: str
    missing: Collection[str]
    signals: Signals
    now_ms: int


def signal_check(facts: SignalFacts, portal: str) -> Check:
    """Return what the facts say. Nothing about signals is a failure: without them portals are polled."""
    if not facts.address:
        return skipped(_NAME, "B24_PUSH_URL is not set; the portal is polled only.", portal=portal)
    heard, missed = facts.signals.heard_ms, facts.signals.missed_ms
    if facts.missing:
        return warning(
            _NAME,
            f"Not bound to {facts.address}: {', '.join(sorted(facts.missing))}.",
            f"Running workers bind it; to do so now: b24offline bind --portal {portal}.",
            portal=portal,
        )
    if missed > heard:
        age = (facts.now_ms - missed) / 60_000
        what = f"A poll {age:.0f} min ago found records that no signal had announced."
        return warning(_NAME, what, _START, portal=portal)
    if not heard:
        return warning(
            _NAME,
            "Bound, but none has arrived yet: nothing has changed there, or they do not get through.",
            _START,
            portal=portal,
        )
    return ok(
        _NAME,
        f"Bound to {facts.address}; the last one came {(facts.now_ms - heard) / 60_000:.0f} min ago.",
        portal=portal,
    )
