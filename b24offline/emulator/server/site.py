"""A portal behind HTTP: its state, and what the emulator does to it from outside."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from b24offline.emulator.server.faults import Faults
from b24offline.emulator.server.later import Later
from b24offline.emulator.server.push import Push
from b24offline.emulator.server.traffic_stream import TrafficStream

if TYPE_CHECKING:
    from b24offline.emulator.state import Portal


class Site:
    """A portal with its fault plans, delayed calls, signals and stream of changes."""

    def __init__(self, portal: Portal, seed: int) -> None:
        self.portal = portal
        self.faults = Faults(Random(f"{seed}/{portal.name}/faults"))
        self.later = Later(portal.clock)
        self.push = Push(portal, self.later)
        self.traffic = TrafficStream(portal)
        portal.on_arrival = self.push.arrived
