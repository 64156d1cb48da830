"""The `time` part of an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from b24offline.emulator.clock import iso

if TYPE_CHECKING:
    from b24offline.emulator.call import Call


def time_of(call: Call) -> dict[str, Any]:
    """When the call began and ended on the portal's clock, and the execution time of its method."""
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
        operating = call.portal.operating
        found["operating_reset_at"] = operating.reset_at(call.method, call.now)
        found["operating"] = round(operating.used(call.method, call.now), 6)
    return found
