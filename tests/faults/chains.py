"""Pipelines of the fault runs: each execution of a step is written into the journal, and fails as a row asked.

Imported by the workers (`B24_PIPELINES`), never by a row.
"""

from __future__ import annotations

import os
from typing import Any

from celery.canvas import Signature

from b24offline.events import Event
from b24offline.pipeline import handoff, route
from b24offline.tasks import mirror, objects
from b24offline.tasks.steps import step
from tests.faults.evidence import fingerprint
from tests.faults.handling import behave, journal, noted
from tests.faults.journal import CHEAP, COUNTED, TRACKED

_fetch = objects.fetch.run


def fetch_noted(event: Event) -> dict[str, Any]:
    """Return the shipped first step, with its span: bulk reads are made for pipelines that have it, so it must be that
    one."""
    cheap = CHEAP in os.environ
    with noted(last=cheap) as span:
        reference: dict[str, Any] = _fetch(event)
        if cheap:
            journal().effect(span, fingerprint(objects.load(reference).data))
        word, _ = journal().mode(f"first {reference['entity']} {reference['object_id']}", alone=True)
        return object() if word == "unserializable" else reference  # type: ignore[return-value]


objects.fetch.run = fetch_noted


@step
def work(reference: dict[str, Any]) -> Any:
    """Have its effect on what the object is now, and mirrors it."""
    with noted(last=True) as span:
        word, argument = journal().mode(f"{reference['entity']} {reference['object_id']}")
        after = word.removesuffix("_after") if word.endswith("_after") else ""
        if not after:
            behave(word, argument)
        journal().effect(span, fingerprint(objects.load(reference).data))
        mirror.upsert.run(reference)
        if after:
            behave(after, argument)
        return object() if word == "unserializable" else reference


@step
def count(event: Event) -> None:
    """One step, which needs no object."""
    with noted(last=True) as span:
        journal().effect(span, "")


@route(*TRACKED)
def tracked(event: Event) -> Signature:
    """Return every event of every entity."""
    return objects.fetch.s() if CHEAP in os.environ else objects.fetch.s() | work.s()


@route(*COUNTED)
def counted(event: Event) -> Signature:
    """Return a second pipeline of the same event."""
    return count.s()


@route("ONCRMDEALMOVETOCATEGORY")
def announced(event: Event) -> Signature:
    """Given to another stack, and finished here."""
    return objects.fetch.s() | handoff("shop.announce", queue="shop") | work.s()
