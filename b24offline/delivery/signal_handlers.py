"""Keeps the address of the configuration bound at one portal as the one that its signals go to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from b24offline import keys
from b24offline.rest import bind_handlers, unbind_handlers

if TYPE_CHECKING:
    from b24offline.delivery.portal_context import PortalContext

log = logging.getLogger(__name__)

_FIELD: Final = "handler"


class SignalHandlers:
    """Binds and ends the handlers of one portal; what was bound last is noted in the ledger."""

    def __init__(self, portal: PortalContext) -> None:
        self._portal = portal
        self._key = keys.signals(portal.ledger.stem)

    @property
    def wanted(self) -> str:
        """What is to be bound: the least pause and the address; "" where the configuration has none."""
        config = self._portal.config
        return f"{config.push_min_timeout_seconds} {config.push_url}" if config.push_url else ""

    @property
    def bound(self) -> str:
        """What was bound last, in the form of `wanted`."""
        return str(self._portal.redis.hget(self._key, _FIELD) or "")

    def sync(self) -> None:
        """Bind the configured address, and end what was bound before with another one or another pause.

        A refusal is logged: without signals the portal is polled. Raise the error of a call that fails as a whole.
        """
        wanted, bound = self.wanted, self.bound
        if bound not in ("", wanted):
            self.end()
        if not wanted:
            return
        pause, _, address = wanted.partition(" ")
        self._portal.redis.hset(self._key, _FIELD, wanted)  # before: what may be bound must be known, to end it
        for name, why in bind_handlers(self._portal.client, address, int(pause)).items():
            log.error("signal cannot be bound", extra={"portal": self._portal.name, "event": name, "why": why})

    def end(self) -> int:
        """End what was bound last; return how many there were."""
        address = (self.bound or self.wanted).partition(" ")[2]
        ended = unbind_handlers(self._portal.client, address) if address else 0
        self._portal.redis.hdel(self._key, _FIELD)
        return ended
