"""Take one message of a portal: bound it, prove it, decide, act. The answer says no more than whether it was taken.

A signal is a hint: whatever goes wrong here, polls bring the records. An installation comes once, and its tokens with
it: it is stored before it is answered.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from b24offline.errors import BrokerUnavailable, StoreUnavailable
from b24offline.failpoints import failpoint
from b24offline.push.form import Malformed, parse_form
from b24offline.push.installing import install
from b24offline.push.limits import Limits
from b24offline.push.message import Action, Proof, decide, message_of, proved
from b24offline.push.proving import is_of, look_whether_uninstalled
from b24offline.rest import SIGNAL
from b24offline.store import Installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from b24offline.push.background import Background
    from b24offline.push.message import Message
    from b24offline.runtime import Runtime

    class Broker(Protocol):
        """What messages ask the workers for; raises BrokerUnavailable."""

        def poll(self, portal: str) -> object:
            """Ask for a poll, unless one waits."""

        def bind(self, portal: str) -> object:
            """Ask for a look at the subscriptions."""


log = logging.getLogger(__name__)

TAKEN: Final = 200
MALFORMED: Final = 400
REFUSED: Final = 403
TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
"""Our own ledger or store does not answer."""
_PROOF_SECONDS: Final = 60.0
"""How often a portal is asked whether a message in its name is its own."""


class Receiver:
    """Takes the messages of all portals; called by many threads."""

    def __init__(
        self, runtime: Runtime, broker: Broker, background: Background, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._broker = broker
        self._background = background
        self._limits = Limits(clock)

    def receive(self, body: bytes) -> int:
        """Act upon one message. Return the status of the answer."""
        if not self._limits.take():
            return TOO_MANY
        try:
            message = message_of(parse_form(body))
        except Malformed as error:
            log.debug("malformed message", extra={"why": str(error)})
            return MALFORMED
        if not self._limits.take_from(message.member_id, message.application_token):
            return TOO_MANY
        try:
            return self._received(message)
        except (RedisError, StoreUnavailable) as error:
            log.error("message not taken, polls bring the records", extra={"why": type(error).__name__})  # noqa: TRY400
            return UNAVAILABLE

    def _received(self, message: Message) -> int:
        known = self._runtime.store.application_tokens.of_member(message.member_id)
        proof, portals = proved(message, known)
        if proof is Proof.PROVED:
            self._limits.note_proved(message.member_id, message.application_token)
        action = decide(message, proof)
        if action is Action.REFUSE:
            log.warning("message refused", extra={"event": message.event, "member": message.member_id})
            return REFUSED
        if action is Action.INSTALL:
            return self._install(message, proof)
        if action is Action.PROVE:
            self._prove(message, portals)
            return REFUSED  # as any other message that is not proved: the answer tells nobody which portals are served
        self._act(action, portals)
        return TAKEN

    def _act(self, action: Action, portals: Iterable[str]) -> None:
        failpoint(f"push.{action.value}")
        for name in portals:
            if action is Action.WAKE and self._runtime.services(name).waker.wake():
                self._ask(self._broker.poll, name)
            elif action is Action.BIND:
                self._ask(self._broker.bind, name)
            elif action is Action.SUSPEND and self._runtime.once_per(f"uninstalled:{name}", _PROOF_SECONDS):
                self._background.add(partial(look_whether_uninstalled, self._runtime, name))

    def _install(self, message: Message, proof: Proof) -> int:
        if proof is not Proof.PROVED and not self._limits.take_call():
            return TOO_MANY
        installation = Installation(message.member_id, message.application_token, message.refresh_token)
        if not self._runtime.store.installations.keep(installation):
            return TOO_MANY
        failpoint("push.kept")
        # Where there is no room, `resume` takes it up.
        self._background.add(partial(self._installed, installation))
        return TAKEN

    def resume(self) -> None:
        """Act upon installations that are stored: those of a process that died, and those that failed before."""
        while installation := self._runtime.store.installations.take():
            self._installed(installation)

    def _installed(self, installation: Installation) -> None:
        failpoint("push.proving")
        name = install(self._runtime, installation)
        self._runtime.store.installations.done(installation)
        if name is None:
            return
        self._limits.note_proved(installation.member_id, installation.application_token)
        self._runtime.poll_soon(name)
        self._ask(self._broker.poll, name)

    def _prove(self, message: Message, portals: Iterable[str]) -> None:
        """Ask the portals in the background, and act then; each of them at most once a minute."""
        for name in portals:
            if self._runtime.once_per(f"prove:{name}", _PROOF_SECONDS) and self._limits.take_call():
                self._background.add(partial(self._proved_late, message, name))

    def _proved_late(self, message: Message, name: str) -> None:
        if not is_of(self._runtime, name, message):
            return
        self._limits.note_proved(message.member_id, message.application_token)
        self._act(Action.WAKE if message.event == SIGNAL else Action.BIND, [name])

    def _ask(self, ask: Callable[[str], object], name: str) -> None:
        """Send a message to the workers; where the broker takes none the tick follows, as the portal is due."""
        try:
            ask(name)
        except BrokerUnavailable as error:
            log.warning("the broker took no message", extra={"portal": name, "why": str(error)})
