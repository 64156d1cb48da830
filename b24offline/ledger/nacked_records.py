"""What is known of the records that are nacked and free on the portal: which event failed, where, with what.

A note beside the first sight of each, for people to read. That there is one makes sweeps look for records to redrive.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from b24offline import keys
from b24offline.events import Event, event_from_record, shipped_catalogue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from redis import Redis

    from b24offline.events import Record
    from b24offline.ledger.ledger import Ledger


def note_failures(redis: Redis, ledger: Ledger, process_id: str, records: Collection[int]) -> None:
    """Keep which runs of these records of a batch failed, and why, before the batch forgets them."""
    names = [str(record) for record in records]
    if not names:
        return
    notes: dict[Any, Any] = {}
    for record, text in zip(names, redis.hmget(keys.records(ledger.stem, process_id), names), strict=True):
        if text is None:
            continue
        kept: dict[str, Any] = json.loads(text)
        failed = {}
        for run in filter(None, kept["runs"].split(",")):
            state, reason = ledger.run_fields(run, "state", "reason")
            if state == "failed":
                failed[run.partition("/")[2]] = reason
        notes[record] = _note(Event.from_json(kept["event"]), failed)
    if notes:
        redis.hset(keys.failures(ledger.stem), mapping=notes)


def note_unknown(redis: Redis, ledger: Ledger, nacked: Iterable[Record]) -> None:
    """Keep the events of nacked records of which nothing else is known, as after the loss of the ledger."""
    with redis.pipeline(transaction=False) as pipe:
        for record in nacked:
            event = event_from_record(ledger.portal, record, shipped_catalogue())
            pipe.hsetnx(keys.failures(ledger.stem), str(record.record_id), _note(event, {}))
        pipe.execute()


def known_failures(redis: Redis, ledger: Ledger) -> dict[int, dict[str, str]]:
    """Return record id -> event, object, pipeline and reason."""
    return {int(record): json.loads(text) for record, text in redis.hgetall(keys.failures(ledger.stem)).items()}


def forget_nacked(redis: Redis, ledger: Ledger, records: Collection[int]) -> None:
    """Forget records that are not nacked and free any more."""
    if records:
        names = [str(record) for record in records]
        redis.hdel(keys.nacked(ledger.stem), *names)
        redis.hdel(keys.failures(ledger.stem), *names)


def hurry_nacked(redis: Redis, ledger: Ledger, record: int) -> None:
    """Let a nacked record be due at the next look, as if it had been seen long ago."""
    redis.hset(keys.nacked(ledger.stem), str(record), 0)


def _note(event: Event, failed: dict[str, str]) -> str:
    facts = {
        "event": event.name,
        "object": str(event.object or ""),
        "pipeline": ", ".join(failed),
        "reason": ", ".join(dict.fromkeys(failed.values())),
    }
    return json.dumps(facts, separators=(",", ":"))
