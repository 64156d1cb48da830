"""The signal ONOFFLINEEVENT: a POST to a handler on this machine when records have arrived. Not retried."""

from __future__ import annotations

import http.client
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from b24offline.emulator.server.later import Later
    from b24offline.emulator.state import Binding, Portal

SIGNAL: Final = "ONOFFLINEEVENT"
_ANSWER_SECONDS: Final = 5.0


@dataclass(slots=True)
class PushCounts:
    """Signals sent and answered, sent in vain, and not sent because the handler is not on this machine."""

    delivered: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(slots=True)
class Push:
    """Signals for one portal; at most one per handler in its `minTimeout`, the next waits that long."""

    portal: Portal = field(repr=False)
    later: Later = field(repr=False)
    counts: PushCounts = field(default_factory=PushCounts)
    _due: dict[str, float] = field(default_factory=dict)
    _waiting: set[str] = field(default_factory=set)

    def arrived(self) -> None:
        """Schedule a signal to every handler that waits for none; call it under the portal's lock."""
        for binding in self.portal.subscriptions.handlers(SIGNAL):
            if binding.handler in self._waiting:
                continue
            now = self.portal.clock.now()
            self._waiting.add(binding.handler)
            self.later.add(max(now, self._due.get(binding.handler, 0.0)), partial(self._send, binding))

    def _send(self, binding: Binding) -> None:
        with self.portal.lock:
            self._waiting.discard(binding.handler)
            self._due[binding.handler] = self.portal.clock.now() + binding.min_timeout_seconds
            body = self._body(self.portal.tokens.issue_access(self.portal.clock.now()))
        threading.Thread(target=self._post, args=(binding.handler, body), name="push", daemon=True).start()

    def _body(self, access_token: str) -> str:
        address = self.portal.address
        return urlencode(
            {
                "event": SIGNAL,
                "event_handler_id": "1",
                "ts": str(int(self.portal.clock.now())),
                "auth[access_token]": access_token,
                "auth[expires_in]": "3600",
                "auth[scope]": self.portal.account.scopes,
                "auth[domain]": address.domain,
                "auth[client_endpoint]": address.endpoint,
                "auth[server_endpoint]": address.auth_url,
                "auth[member_id]": self.portal.member_id,
                "auth[status]": "L",
                "auth[application_token]": self.portal.application_token,
            }
        )

    def _post(self, handler: str, body: str) -> None:
        target = urlsplit(handler)
        if target.scheme != "http" or target.hostname not in ("127.0.0.1", "localhost"):
            self.counts.refused += 1
            return
        connection = http.client.HTTPConnection(target.hostname, target.port or 80, timeout=_ANSWER_SECONDS)
        path = f"{target.path or '/'}{'?' + target.query if target.query else ''}"
        try:
            connection.request("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})
            connection.getresponse().read()
            self.counts.delivered += 1
        except (OSError, http.client.HTTPException):
            self.counts.failed += 1
        finally:
            connection.close()
