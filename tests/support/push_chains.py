"""A pipeline that notes when its first step begins."""

from __future__ import annotations

import time

from celery.canvas import Signature

from b24offline.pipeline import Event, route, step
from b24offline.tasks.process import current_runtime

BEGUN = "test:begun"
"""A hash: object ("crm_deal 7") -> epoch seconds at which the first step for it began, the first time."""


@step
def begin(event: Event) -> None:
    """Note the time."""
    current_runtime().redis.hsetnx(BEGUN, str(event.object), time.time())


@route("ONCRMDEALADD")
def deal_added(event: Event) -> Signature:
    """Deals."""
    return begin.s()
