"""What monitoring looks at, of many portals: one script a portal, a hundred portals in one round trip.

Reads only, and is bounded: of a portal with more open batches or due times than are looked at, the oldest are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator, TypeAdapter
from redis.exceptions import ResponseError

from b24offline import keys
from b24offline.ledger.job_queue import RECONCILE
from b24offline.ledger.reconciled import Reconciled  # noqa: TC001 - pydantic reads it
from b24offline.ledger.transitions import registered, schema_mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis import Redis

    from b24offline.ledger.schema import LedgerSchemaMismatch

_AT_ONCE: Final = 100
MOST_BATCHES: Final = 2000
MOST_DUE: Final = 2000
_KEPT: Final = (
    *(keys.full, keys.calls, keys.jobs, keys.unreadable, keys.oversized, keys.refused, keys.reconciled),
    keys.cached_bytes,
)
"""The keys that the script is given, in its order."""


def _none(value: Any) -> Any:
    """Return None for what Redis does not have: Lua knows it as false."""
    return None if value is False else value


def _list(value: Any) -> Any:
    """Return an empty list for an empty table of Lua."""
    return [] if value == {} else value


def _pairs(value: Any) -> Any:
    """Return a hash of Redis, which comes as fields and values in turn."""
    flat = _list(value)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _jobs(value: Any) -> Any:
    """Return the jobs of which only their kind is wanted."""
    return {number: json.loads(text)["kind"] for number, text in _pairs(value).items()}


def _json(value: Any) -> Any:
    return json.loads(value) if value else None


_Text = Annotated[str | None, BeforeValidator(_none)]
_Moment = Annotated[int | None, BeforeValidator(_none)]
_Moments = Annotated[tuple[int, ...], BeforeValidator(_list)]
_Numbers = Annotated[dict[str, int], BeforeValidator(_pairs)]


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """An open batch. ``seen_ms``: when its records were reserved, or its dead letter was redriven."""

    process_id: str
    kind: str
    seen_ms: int
    opened_ms: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the ledger holds of one portal; moments in milliseconds of its clock.

    Attributes:
        now_ms: the moment of the reading.
        batches: open ones, the oldest first.
        runs: state -> how many runs are in it; final ones apart, which are of no interest.
        overdue_runs: runs that the next sweep starts again.
        oldest_sent_ms: when the run was handed out that waits longest for a worker.
        unread: open batches and due times that were not looked at.
        counters: since the ledger began.
        open_counts: see `keys.open_counts`.
        orphans_ms: when each orphan was seen first.
        nacked_ms: when each nacked record was seen first.
        looked_ms: the end of the last whole look at all reserved records.
        full: lanes that have as many open batches as they may -> since when.
        calls: fields of the calls in flight.
        jobs: number -> kind, of jobs that are not done.
        unreadable: reserved records that cannot be read.
        oversized: what the portal sent that was too large.
        refused: events that it refused to subscribe.
        reconciled: how the last reconciliation ended.
        cached_bytes: of objects that were cached lately.
    """

    now_ms: int
    batches: Annotated[tuple[OpenBatch, ...], BeforeValidator(_list)]
    runs: dict[str, int]
    overdue_runs: int
    unread: int
    counters: _Numbers
    open_counts: Annotated[dict[str, str], BeforeValidator(_pairs)]
    orphans_ms: _Moments
    nacked_ms: _Moments
    full: _Numbers
    calls: Annotated[dict[str, str], BeforeValidator(_pairs)]
    jobs: Annotated[dict[str, str], BeforeValidator(_jobs)]
    looked_ms: _Moment = None
    oldest_sent_ms: int | None = None
    unreadable: Annotated[int | None, BeforeValidator(_none)] = None
    oversized: _Text = None
    refused: Annotated[tuple[str, ...] | None, BeforeValidator(_json)] = None
    reconciled: Annotated[Reconciled | None, BeforeValidator(_json)] = None
    cached_bytes: Annotated[int | None, BeforeValidator(_none)] = None

    def seconds_since(self, moment_ms: int) -> float:
        """Return the age of something at the moment of the reading."""
        return (self.now_ms - moment_ms) / 1000

    @property
    def silent(self) -> dict[str, int]:
        """Calls that the portal does not answer -> since when."""
        found = {name.partition(":"): since for name, since in self.calls.items()}
        return {calls: int(since) for (what, _, calls), since in found.items() if what == "silent"}

    @property
    def unreconciled_seconds(self) -> float:
        """The age of the oldest request for a reconciliation that has not ended; 0.0 without one."""
        asked = [int(number.partition("-")[0]) for number, kind in self.jobs.items() if kind == RECONCILE]
        return max(0.0, self.seconds_since(min(asked))) if asked else 0.0


_READING: Final = TypeAdapter(Reading)


def read_portals(
    redis: Redis, key_prefix: str, portals: Sequence[str]
) -> Iterator[tuple[str, Reading | LedgerSchemaMismatch]]:
    """Yield each portal with its reading, or why this version may not read its ledger. Raises RedisError."""
    script = registered(redis, "read_portal")
    for start in range(0, len(portals), _AT_ONCE):
        names = portals[start : start + _AT_ONCE]
        with redis.pipeline(transaction=False) as pipe:
            for name in names:
                stem = keys.stem(key_prefix, name)
                script(keys=[stem], args=[MOST_BATCHES, MOST_DUE, *(key(stem) for key in _KEPT)], client=pipe)
            replies = pipe.execute(raise_on_error=False)
        for name, reply in zip(names, replies, strict=True):
            yield name, _reading(name, reply)


def _reading(portal: str, reply: Any) -> Reading | LedgerSchemaMismatch:
    if isinstance(reply, ResponseError) and (other := schema_mismatch(portal, reply)):
        return other
    if isinstance(reply, Exception):
        raise reply
    return _READING.validate_json(reply)
