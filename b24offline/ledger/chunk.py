"""The runs of one chunk: begun, renewed and ended together, each by the same transition as a run alone.

One script makes them all, so that a chunk costs one round trip each time, and no process can die between two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from b24offline import keys
from b24offline.ledger.replies import COMPLETION, STEP_LEASE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis import Redis

    from b24offline.ledger.ledger import Ledger
    from b24offline.ledger.replies import RunRef, StepLease
    from b24offline.ledger.transitions import Call


@dataclass(frozen=True, slots=True)
class ChunkEnded:
    """What the end of a chunk brought.

    Attributes:
        recorded: runs of which something was recorded; those of replaced attempts change nothing.
        next: the runs of the object queues that are to be started now.
        settleable: batches whose last outcome was among these.
    """

    recorded: frozenset[RunRef]
    next: tuple[RunRef, ...]
    settleable: tuple[str, ...]


class ChunkLedger:
    """Makes one transition of each run of a chunk, in one script. For one portal."""

    def __init__(self, redis: Redis, ledger: Ledger) -> None:
        self._redis = redis
        self._ledger = ledger
        self._calls = ledger.calls

    def begin(self, runs: Sequence[RunRef], position: int) -> dict[RunRef, StepLease]:
        """Take the leases of these runs. Those that are missing are finished, replaced, or were delivered twice."""
        replies = self._ledger.transitions.run_all([self._calls.begin(run, position) for run in runs])
        return {
            run: STEP_LEASE.validate_json(reply) for run, reply in zip(runs, replies, strict=True) if reply is not None
        }

    def renew(self, runs: Sequence[RunRef], position: int) -> int:
        """Renew the leases of these runs. Return how many are not lost."""
        return sum(map(int, self._ledger.transitions.run_all([self._calls.renew(run, position) for run in runs])))

    def end(self, ends: Mapping[RunRef, Call]) -> ChunkEnded:
        """Record what became of each run: the call of `RunCalls` that says it."""
        replies = self._ledger.transitions.run_all(list(ends.values()))
        recorded, following, settleable = set(), [], dict[str, None]()
        for run, reply in zip(ends, replies, strict=True):
            if not isinstance(reply, str):
                recorded |= {run} if reply else set()
                continue
            completion = COMPLETION.validate_json(reply)
            recorded |= {run} if completion.recorded else set()
            following += [completion.next] if completion.next else []
            settleable |= dict.fromkeys(completion.settleable)
        return ChunkEnded(frozenset(recorded), tuple(following), tuple(settleable))

    def crash(self, runs: Iterable[RunRef], *, backoff_seconds: float) -> ChunkEnded:
        """Count a crash of each of these attempts."""
        return self.end({run: self._calls.crash(run, backoff_seconds=backoff_seconds) for run in runs})

    def crashed(self, runs: Sequence[RunRef]) -> frozenset[RunRef]:
        """Return the runs whose process died before, at least once."""
        with self._redis.pipeline(transaction=False) as pipe:
            for run in runs:
                pipe.hget(keys.run(self._ledger.stem, run.run), "crashes")
            counts = pipe.execute()
        return frozenset(run for run, count in zip(runs, counts, strict=True) if count not in (None, "0"))
