"""What works for one portal, as the runtime builds it and tasks and commands use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from b24offline.delivery.dead_letters import DeadLetterQueue
from b24offline.delivery.dispatcher import Dispatcher
from b24offline.delivery.object_reader import ObjectReader
from b24offline.delivery.poll_turn import PollTurns
from b24offline.delivery.poller import Poller
from b24offline.delivery.portal_context import PortalContext
from b24offline.delivery.portal_lifecycle import PortalLifecycle
from b24offline.delivery.redriver import Redriver
from b24offline.delivery.settler import Settler
from b24offline.delivery.signals import Waker
from b24offline.delivery.subscriber import Subscriber
from b24offline.delivery.sweeper import Sweeper
from b24offline.errors import B24OfflineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.delivery.portal_context import Shared
    from b24offline.events import Portal

TROUBLE_OF_ONE_PORTAL: Final = (B24OfflineError, ResponseError)
"""What is wrong with one portal, or with its keys in the ledger, and must not keep the others waiting."""


class PortalServices(PortalContext):
    """Everything that works for one portal."""

    def __init__(self, shared: Shared, portal: Portal, on_gap: Callable[[int], object]) -> None:
        super().__init__(shared, portal, on_gap)
        self.reader = ObjectReader(self)
        self.poller = Poller(self)
        self.settler = Settler(self)
        self.subscriber = Subscriber(self)
        self.lifecycle = PortalLifecycle(self)
        self.dispatcher = Dispatcher(self, self.reader)
        self.dead_letter_queue = DeadLetterQueue(self)
        self.polls = PollTurns(self, self.poller, self.lifecycle, self.subscriber)
        self.sweeper = Sweeper(self, self.dead_letter_queue)
        self.waker = Waker(self)
        self.redriver = Redriver(self, self.poller, self.dispatcher)
