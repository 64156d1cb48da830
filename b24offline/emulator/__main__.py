"""Start an emulator: `python -m b24offline.emulator`. Prints one JSON line when it is ready, then serves."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from waitress.server import create_server  # type: ignore[import-untyped]

from b24offline.emulator.server import EmulatorApp, Options, World

if TYPE_CHECKING:
    from collections.abc import Sequence

THREADS = 32
"""Calls that a fault holds back occupy a thread each; the control API must still get through."""
_PARENT_LOOK_SECONDS = 0.1


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="b24offline.emulator", description="A Bitrix24 portal on this machine.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--portal", action="append", default=[], help="a further portal; may be repeated")
    parser.add_argument("--objects", type=int, default=60, help="objects to begin with, on each portal")
    parser.add_argument("--seed", type=int, default=1, help="of ids, tokens and contents")
    parser.add_argument("--client-id")
    parser.add_argument("--client-secret")
    parser.add_argument("--refresh-token", help="of the default portal")
    parser.add_argument("--time-scale", type=float, default=1.0, help="portal seconds in a real second")
    parser.add_argument("--limits-off", action="store_true", help="let the bucket never refuse")
    parser.add_argument("--threads", type=int, default=THREADS, help="requests served at once")
    parser.add_argument("--exit-with-parent", action="store_true", help="end when the parent process has ended")
    return parser.parse_args(arguments)


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    given = options_of()
    parent = os.getppid()
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    app = _Late()
    server: Any = create_server(
        app, host=given.host, port=given.port, threads=given.threads, channel_request_lookahead=1, ident=None
    )
    url = f"http://{given.host}:{server.effective_port}"
    world = World(
        url,
        Options(
            portals=tuple(given.portal),
            objects=given.objects,
            seed=given.seed,
            client_id=given.client_id,
            client_secret=given.client_secret,
            refresh_token=given.refresh_token,
            time_scale=given.time_scale,
            limits_off=given.limits_off,
        ),
    )
    app.app = EmulatorApp(world)

    def stop(_signal: int, _frame: object) -> None:
        for site in world.sites.values():
            site.faults.disarm()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if given.exit_with_parent:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    sys.stdout.write(json.dumps(world.hello()) + "\n")
    sys.stdout.flush()
    server.run()
    server.close()


class _Late:
    """Stands in for the application until the port, and so the portals' addresses, are known."""

    app: EmulatorApp

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self.app(environ, start_response)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
