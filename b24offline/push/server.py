"""The HTTP server of the receiver: bounds for what it reads, and for how long it waits for that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from b24offline.push.form import MAX_BODY_BYTES

if TYPE_CHECKING:
    from b24offline.push.web import WebApp

REQUEST_SECONDS: Final = 10.0
"""From a request's first byte to its last; a sender that drips bytes is cut off then."""
IDLE_SECONDS: Final = 15
MAX_HEADER_BYTES: Final = 16_384
MAX_CONNECTIONS: Final = 1_000
THREADS: Final = 4
"""Each message takes milliseconds; whatever calls a portal is done behind the answer."""


class BoundedChannel(HTTPChannel):  # type: ignore[misc]
    """A connection whose requests have to arrive in time."""

    begun = 0.0

    def received(self, data: bytes) -> bool:
        """Take bytes of a request; close the connection where it began too long ago."""
        if self.request is None:
            self.begun = time.monotonic()
        elif time.monotonic() - self.begun > REQUEST_SECONDS:
            self.will_close = True
            return False
        return bool(super().received(data))


def make_server(app: WebApp, listen: str) -> Any:
    """Return a server that listens at ``address:port``; `run` serves. Raise OSError where the address is taken."""
    server = create_server(
        app,
        listen=listen,
        threads=THREADS,
        ident=None,
        connection_limit=MAX_CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=5,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=MAX_BODY_BYTES + 1,  # it refuses what is as large as this
        # What lies in front is not known, and nothing of it is used.
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = BoundedChannel
    return server
