"""Whether the broker has room: nothing new is polled while too much waits in it, or it is short of memory.

What is reserved then would wait behind everything else, and fill a broker that other stacks may share.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from b24offline.errors import BrokerUnavailable
from b24offline.ledger import MEMORY_SHARE, note_broker

if TYPE_CHECKING:
    from collections.abc import Callable

    from b24offline.delivery.portal_context import Shared

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 3.0
"""How long a look at the broker is good for, over all workers: a tick a second need not ask each time."""
UNSEEN_LOG_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class BrokerLoad:
    """How full the broker is.

    Attributes:
        waiting: messages in our queues.
        memory_share: part of its memory that is used, 0.0 where it has no bound or does not tell.
        blocked: whether it takes no messages for lack of memory or disk.
    """

    waiting: int
    memory_share: float = 0.0
    blocked: bool = False


def full_because(load: BrokerLoad, most_waiting: int) -> str:
    """Return why nothing may be polled now, "" when it may. Pure."""
    if load.blocked:
        return "it takes no messages, for lack of memory or disk"
    if load.memory_share > MEMORY_SHARE:
        return f"it uses {load.memory_share:.0%} of its memory"
    if load.waiting > most_waiting:
        return f"{load.waiting} messages wait in our queues, more than {most_waiting}"
    return ""


class BrokerGate:
    """Looks at the broker for all portals of a deployment."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._prefix = shared.config.redis_key_prefix

    def look(self, load: Callable[[], BrokerLoad]) -> None:
        """Ask the broker, unless somebody did just now, and note what it says.

        The gate is open where the broker does not tell: whoever publishes learns soon enough that it is away.
        """
        if not self._shared.once_per("broker-load", LOOK_SECONDS):
            return
        try:
            full = full_because(load(), self._shared.config.max_queued_messages)
        except BrokerUnavailable as error:
            note_broker(self._shared.redis, self._prefix, unseen=str(error))
            if self._shared.once_per("broker-unseen", UNSEEN_LOG_SECONDS):
                log.warning("the broker does not tell what waits", extra={"why": str(error)})
            return
        note_broker(self._shared.redis, self._prefix, full=full)
