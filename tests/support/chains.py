"""Pipelines of the end-to-end tests: the shipped steps, and handlers that fail, hang or die as a test asks.

Keys in the ledger's Redis say what a handler does, so that a test can change it while workers run.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery.canvas import Signature
from celery.exceptions import Ignore

from b24offline.pipeline import Event, Permanent, current, fetch, handoff, route, step, upsert
from b24offline.tasks.process import current_runtime

RUNS = "test:runs"
"""A list of ``<idempotency key> <attempt>`` lines, one for each handler that began."""
EFFECTS = "test:effects"
"""A list of idempotency keys, one for each handler that ended."""
MODE = "test:mode"
"""A hash: object ("crm_deal 7") or "*" -> fail | permanent | slow | die | ignore."""


@step
def handle(reference: dict[str, Any]) -> dict[str, Any]:
    """Do what the test asked for this object, and record it."""
    work, redis = current(), current_runtime().redis
    redis.rpush(RUNS, f"{work.idempotency_key} {work.attempt}")
    mode = redis.hget(MODE, str(work.event.object)) or redis.hget(MODE, "*")
    if mode == "fail":
        raise ValueError("fails as the test asked")
    if mode == "permanent":
        raise Permanent("never works, as the test asked")
    if mode == "slow":
        time.sleep(float(redis.get("test:slow_seconds") or 1))
    if mode == "die":
        os._exit(9)
    if mode == "ignore":
        redis.rpush(EFFECTS, work.idempotency_key)
        raise Ignore
    redis.rpush(EFFECTS, work.idempotency_key)
    return reference


@route("ONCRMDEALADD", "ONCRMDEALUPDATE", "ONCRMDEALDELETE", mirrors="crm_deal")
def deal_handled(event: Event) -> Signature:
    """Deals: fetched, handled, mirrored."""
    return fetch.s() | handle.s() | upsert.s()


@route("ONCRMLEADADD", "ONCRMLEADUPDATE", "ONCRMLEADDELETE")
def lead_handled(event: Event) -> Signature:
    """Leads: fetched and handled."""
    return fetch.s() | handle.s()


@route("ONCRMLEADUPDATE")
def lead_counted(event: Event) -> Signature:
    """Leads again: a second pipeline of the same event, with a single step."""
    return count.s()


@step
def count(event: Event) -> None:
    """Count the events of each lead."""
    current_runtime().redis.hincrby("test:counted", str(event.object), 1)


@route("ONCRMCOMPANYUPDATE")
def company_broken(event: Event) -> Signature:
    """Companies: a pipeline that cannot be built until a test repairs it."""
    if not current_runtime().redis.get("test:repaired"):
        raise KeyError("broken, as the test asked")
    return count.s()


@route("ONCRMCONTACTUPDATE")
def contact_announced(event: Event) -> Signature:
    """Contacts: fetched here, announced by another stack, which does not import b24offline."""
    return fetch.s() | handoff("shop.announce", queue="shop")


@route("ONTASKUPDATE", name="task_announced")
def announced_first(event: Event) -> Signature:
    """Tasks: the first step is in another stack."""
    return handoff("shop.announce", queue="shop") | handle.s()
