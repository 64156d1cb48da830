"""Events that a portal posts to handlers on this machine: the signal ONOFFLINEEVENT, and news about the application.

None is retried.
"""

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
INSTALLED: Final = "ONAPPINSTALL"
UPDATED: Final = "ONAPPUPDATE"
UNINSTALLED: Final = "ONAPPUNINSTALL"
_ANSWER_SECONDS: Final = 5.0


@dataclass(slots=True)
class PushCounts:
    """Events sent and answered, sent in vain, and not sent because the handler is not on this machine.

    `answers` counts the statuses of the answers.
    """

    delivered: int = 0
    failed: int = 0
    refused: int = 0
    answers: dict[str, int] = field(default_factory=dict)


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

    def install(self, handler: str) -> None:
        """Install the application, and tell its handler, whose address is of the application's settings."""
        with self.portal.lock:
            self.portal.install_application()
            fields = self._fields(INSTALLED, {"VERSION": "1", "ACTIVE": "Y", "INSTALLED": "Y", "LANGUAGE_ID": "en"})
            fields["auth[refresh_token]"] = self.portal.tokens.current_refresh_token
        if handler:
            self._start(handler, fields)

    def uninstall(self) -> None:
        """Uninstall the application, and tell the handlers that it had bound for that."""
        with self.portal.lock:
            bound = self.portal.subscriptions.handlers(UNINSTALLED)
            fields = self._fields(UNINSTALLED, {"LANGUAGE_ID": "en", "CLEAN": "0"}, tokens=False)
            self.portal.remove_application()
        for binding in bound:
            self._start(binding.handler, fields)

    def update(self) -> None:
        """Update the application: its bindings are gone, and what they were bound to is told."""
        with self.portal.lock:
            bound = self.portal.subscriptions.handlers(UPDATED)
            self.portal.subscriptions.unbind(lambda _: True)
            fields = self._fields(UPDATED, {"VERSION": "2", "PREVIOUS_VERSION": "1", "LANGUAGE_ID": "en"})
        for binding in bound:
            self._start(binding.handler, fields)

    def _send(self, binding: Binding) -> None:
        with self.portal.lock:
            self._waiting.discard(binding.handler)
            self._due[binding.handler] = self.portal.clock.now() + binding.min_timeout_seconds
            fields = self._fields(SIGNAL, {})
        self._start(binding.handler, fields)

    def _start(self, handler: str, fields: dict[str, str]) -> None:
        threading.Thread(target=self._post, args=(handler, urlencode(fields)), name="push", daemon=True).start()

    def _fields(self, event: str, data: dict[str, str], *, tokens: bool = True) -> dict[str, str]:
        """Return the fields of an event, under the portal's lock; without ``tokens`` as when no user acted."""
        address, now = self.portal.address, self.portal.clock.now()
        fields = {"event": event, "event_handler_id": "1", "ts": str(int(now))}
        fields |= {f"data[{name}]": value for name, value in data.items()}
        if tokens:
            fields |= {
                "auth[access_token]": self.portal.tokens.issue_access(now),
                "auth[expires_in]": "3600",
                "auth[scope]": self.portal.account.scopes,
            }
        return fields | {
            "auth[domain]": address.domain,
            "auth[client_endpoint]": address.endpoint,
            "auth[server_endpoint]": address.auth_url,
            "auth[member_id]": self.portal.member_id,
            "auth[status]": "L",
            "auth[application_token]": self.portal.application_token,
        }

    def _post(self, handler: str, body: str) -> None:
        target = urlsplit(handler)
        if target.scheme != "http" or target.hostname not in ("127.0.0.1", "localhost"):
            self.counts.refused += 1
            return
        connection = http.client.HTTPConnection(target.hostname, target.port or 80, timeout=_ANSWER_SECONDS)
        path = f"{target.path or '/'}{'?' + target.query if target.query else ''}"
        try:
            connection.request("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"})
            answer = connection.getresponse()
            answer.read()
            self.counts.delivered += 1
            status = str(answer.status)
            self.counts.answers[status] = self.counts.answers.get(status, 0) + 1
        except (OSError, http.client.HTTPException):
            self.counts.failed += 1
        finally:
            connection.close()
