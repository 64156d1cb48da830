"""The process of `b24offline push`: the receiver of one deployment, until SIGTERM."""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING, Any, Final

from b24offline.errors import ConfigError
from b24offline.push.background import Background
from b24offline.push.receiver import Receiver
from b24offline.push.server import make_server
from b24offline.push.web import WebApp
from b24offline.tasks.publish import send_bind, send_poll

if TYPE_CHECKING:
    from b24offline.runtime import Runtime

log = logging.getLogger(__name__)

RESUME_SECONDS: Final = 15.0
"""How often stored installations are looked for."""


class CeleryBroker:
    """Asks the workers through Celery."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def poll(self, portal: str) -> None:
        """Ask for a poll, unless one waits. Raise BrokerUnavailable."""
        send_poll(self._runtime, portal)

    def bind(self, portal: str) -> None:
        """Ask for a look at the subscriptions. Raise BrokerUnavailable."""
        send_bind(portal)


def serve(runtime: Runtime) -> None:
    """Take messages until SIGTERM or SIGINT. Raise ConfigError where the address cannot be listened at."""
    config = runtime.config
    # Made now, by one thread.
    _ = (runtime.store, runtime.redis, runtime.rounds, runtime.queued, runtime.http, runtime.tokens)
    background = Background()
    receiver = Receiver(runtime, CeleryBroker(runtime), background)
    app = WebApp(receiver.receive)
    try:
        server = make_server(app, config.push_listen)
    except OSError as error:
        raise ConfigError(f"B24_PUSH_LISTEN: {config.push_listen} cannot be listened on: {error.strerror}.") from None
    log.info("listening for portals", extra={"address": config.push_listen, "url": str(config.push_url)})

    background.repeat(receiver.resume, RESUME_SECONDS)

    def stop(_signal: int, _frame: Any) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.run()
    server.close()
    background.finish()
