"""`b24offline push`: the process that portals send their signals to."""

from __future__ import annotations

import importlib.util
import os
import resource

import click

from b24offline import log
from b24offline.cli.output import Refusal, load_runtime
from b24offline.config import Config


@click.command()
def push() -> None:
    """Receive the portals' signals, so that events run within a second.

    A signal only makes the next poll come sooner: without this process events run later, and none is lost. It listens
    on B24_PUSH_LISTEN; portals reach it at B24_PUSH_URL, through your proxy, which has the certificate. Several may
    run.
    """
    if not all(importlib.util.find_spec(module) for module in ("werkzeug", "waitress")):
        raise Refusal("Werkzeug and waitress are not installed: pip install 'b24offline[push]'")
    runtime = load_runtime()
    if runtime.config.push_url is None:
        raise Refusal("B24_PUSH_URL is not set. Set it to the address at which portals reach this process.")
    if runtime.config.redis_url != Config.load().redis_url:
        os.environ["B24_REDIS_URL"] = runtime.config.redis_url  # that of `b24offline up`, for Celery, too
    from b24offline.push import serve  # noqa: PLC0415 - it needs what was looked for; and Celery reads the environment

    # A core dump would hold tokens.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    log.configure(runtime.config.log_level, log_format=runtime.config.log_format)
    runtime.ensure_configured_portal()
    serve(runtime)
