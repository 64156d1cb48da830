"""A bulk pipeline of the fault runs: each event of a chunk is written into the journal, and fails as a row asked.

Imported by the workers (`B24_PIPELINES`), never by a row; beside `tests.faults.chains` or alone.
"""

from __future__ import annotations

from typing import Final

from celery import current_task
from celery.canvas import Signature

from b24offline.events import Event
from b24offline.pipeline import Chunk, Failed, Permanent, bulk_step, route
from b24offline.tasks.mirror import upsert_all
from tests.faults.evidence import fingerprint
from tests.faults.handling import behave, journal, started
from tests.faults.journal import TRACKED

LARGEST: Final = 10


class Whole(RuntimeError):
    """What a row asks for that is to fail a whole chunk."""


@bulk_step(reads=True)
def work_all(chunk: Chunk) -> list[Failed]:
    """Have an effect for each event on what its object is now, and mirror them all."""
    task = current_task.request.id
    spans = {work.event.delivery: started(work, f"{task} {work.event.delivery}", last=True) for work in chunk}
    reads = chunk.read()
    failed = list(reads.failed)
    for work, snapshot in reads.found:
        span = spans[work.event.delivery]
        word, argument = journal().mode(f"{snapshot.object.entity} {snapshot.object.object_id}")
        if word == "whole":
            raise Whole("the whole chunk, as the row asked")
        if word in ("fail", "permanent"):
            failed.append(Failed(work.event, ValueError("as the row asked") if word == "fail" else Permanent("never")))
            continue
        after = word.removesuffix("_after") if word.endswith("_after") else ""
        if not after:
            behave(word, argument)
        journal().effect(span, fingerprint(snapshot.data))
        if after:
            behave(after, argument)
    failed += upsert_all.run(chunk) or ()
    bad = {one.event.delivery for one in failed}
    for delivery, span in spans.items():
        journal().end(span, ok=delivery not in bad)
    return failed


@route(*TRACKED, bulk=LARGEST)
def bulked(event: Event) -> Signature:
    """Return every event of every entity."""
    return work_all.s()
