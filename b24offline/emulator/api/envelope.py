"""The `time` part of a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from b24offline.emulator.state import iso

if TYPE_CHECKING:
    from b24offline.emulator.api.call import Call


def time_of(call: Call) -> dict[str, Any]:
    """Return when the call began and ended on the portal's clock, and the execution time of its method."""
    finish = call.portal.clock.now()
    duration = max(0.0, finish - call.now)
    found: dict[str, Any] = {
        "start": round(call.now, 6),
        "finish": round(finish, 6),
        "duration": round(duration, 6),
        "processing": round(duration, 6),
        "date_start": iso(call.now),
        "date_finish": iso(finish),
    }
    if call.portal.quirks.time_has_operating:
        found |= operating_time(call)
    return found


def operating_time(call: Call) -> dict[str, float]:
    """Return the two keys about execution time that `time` may carry."""
    operating = call.portal.operating
    return {
        "operating_reset_at": operating.reset_at(call.method, call.now),
        "operating": round(operating.used(call.method, call.now), 6),
    }
