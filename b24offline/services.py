"""What works for one portal, as the runtime builds it and tasks and commands use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from b24offline.dispatcher import Dispatcher
    from b24offline.ledger import Ledger
    from b24offline.object_reader import ObjectReader
    from b24offline.offline_queue import OfflineQueue
    from b24offline.paced_client import PacedClient
    from b24offline.parking import Parking
    from b24offline.poll_schedule import LaneSchedule
    from b24offline.poller import Poller
    from b24offline.portal import Portal
    from b24offline.portal_guard import PortalGuard
    from b24offline.portal_lifecycle import PortalLifecycle
    from b24offline.redriver import Redriver
    from b24offline.request_box import RequestBox
    from b24offline.settler import Settler
    from b24offline.snapshots import Snapshots
    from b24offline.subscriber import Subscriber


@dataclass(frozen=True, slots=True)
class PortalKit:
    """Everything that works for one portal. ``portal`` is at most a second old."""

    portal: Portal
    client: PacedClient
    queue: OfflineQueue
    ledger: Ledger
    guard: PortalGuard
    poller: Poller
    lanes: LaneSchedule
    settler: Settler
    parking: Parking
    snapshots: Snapshots
    reader: ObjectReader
    requests: RequestBox
    dispatcher: Dispatcher
    redriver: Redriver
    subscriber: Subscriber
    lifecycle: PortalLifecycle
