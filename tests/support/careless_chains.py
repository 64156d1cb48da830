"""Pipelines whose handlers are careless with customers' data: their errors quote it."""

from __future__ import annotations

from typing import Any

from celery.canvas import Signature

from b24offline.events import Event, route
from b24offline.tasks import mirror, objects
from b24offline.tasks.process import current_runtime
from b24offline.tasks.steps import Permanent, step

MODE = "test:careless"
"""A hash: entity -> fail (every attempt), once (the first attempt only), permanent; else the handler works."""


@step
def quote(reference: dict[str, Any]) -> dict[str, Any]:
    """Read the object and, where the test asks for it, raise an error that holds the object's title."""
    data = objects.load(reference).data or {}
    title = data.get("TITLE") or data.get("title")
    redis, entity = current_runtime().redis, reference["entity"]
    mode = redis.hget(MODE, entity)
    if mode == "permanent":
        try:
            int(title)
        except ValueError as error:
            raise Permanent("the title is no number") from error
    if mode == "once" and redis.incr(f"{MODE}:{entity}:{reference['object_id']}") > 1:
        return reference
    if mode in ("fail", "once"):
        raise ValueError(f"cannot work with {title!r} of {data!r}")
    return reference


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMLEADADD", "ONCRMLEADUPDATE", "ONCRMCOMPANYADD", "ONCRMCOMPANYUPDATE")
def quoted(event: Event) -> Signature:
    """Fetch, quote and mirror the object."""
    return objects.fetch.s() | quote.s() | mirror.upsert.s()
