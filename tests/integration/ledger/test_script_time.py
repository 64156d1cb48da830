"""No script does more work because thousands of batches wait, for a person or for their next attempt."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from b24offline.ledger import MAX_RETRYING_RECORDS, BatchKind, Fencing, Ledger, Orphans, PollLease
from tests.support.core_events import TIMERS, entry_of, guard_on, ledger_on, opened, record_of

if TYPE_CHECKING:
    from redis import Redis

FEW, MANY = 100, 20_000
_COPY = """
for i = ARGV[1], ARGV[2] do
  for _, tail in ipairs({'', ':records'}) do
    redis.call('COPY', KEYS[1] .. ':batch:p0' .. tail, KEYS[1] .. ':batch:p' .. i .. tail)
  end
  redis.call('ZADD', KEYS[1] .. ':batches', i, 'p' .. i)
  redis.call('ZADD', KEYS[1] .. ':due', 9e15, 'batch:p' .. i)
  redis.call('HSET', KEYS[1] .. ':nacked', i, 1)
end
for _, field in ipairs({'all', ARGV[3]}) do redis.call('HINCRBY', KEYS[1] .. ':open', field, ARGV[2] - ARGV[1] + 1) end
"""


def most_commands(redis: Redis, kind: BatchKind, number: int) -> dict[str, int]:
    """Return how many commands of Redis each script ran at most in one call, while so many batches are open."""
    redis.flushall()
    ledger = ledger_on(redis)
    fencing = guard_on(redis, ledger, gate=1 + MANY // MAX_RETRYING_RECORDS)
    opened(ledger, "p0", entry_of(1, nacked=True), kind=kind)
    for first in range(1, number, 1000):
        redis.eval(_COPY, 1, ledger.stem, first, min(first + 999, number - 1), kind)
    most, run = Counter[str](), ledger.transition

    def counted(script: str, *args: Any) -> Any:
        redis.config_resetstat()
        reply = run(script, *args)
        commands = redis.info("commandstats")
        most[script] = max(most[script], sum(command["calls"] for command in commands.values()))
        return reply

    ledger.transition = counted  # type: ignore[method-assign]
    play(redis, ledger, fencing, [f"p{batch}" for batch in range(number)])
    return dict(most)


def play(redis: Redis, ledger: Ledger, fencing: Fencing, process_ids: list[str]) -> None:
    for kind in (BatchKind.POLLED, BatchKind.RETRYING):
        lease = fencing.take_poll_lease(None, kind=kind)
        assert isinstance(lease, PollLease)
        assert Orphans(redis, ledger, TIMERS).note_page(0, None, [*process_ids[-49:], "orphan"], unreadable=0)
        fencing.release(lease)
    rows = [record_of(number, ERROR="1") for number in range(1, 1 + FEW)]
    next(fencing.due_nacked(rows, 1), None)
    ledger.take_overdue()
    opened(ledger, "new", entry_of(2))
    ledger.begin_settle("new")


@pytest.mark.parametrize("kind", [BatchKind.DEAD_LETTERED, BatchKind.RETRYING])
def test_scripts_do_not_grow_with_what_waits(redis: Redis, kind: BatchKind) -> None:
    # The first time scripts are loaded, too.
    _, few, many = (most_commands(redis, kind, number) for number in (1, FEW, MANY))
    assert {"begin_poll", "note_reserved", "due_nacked", "take_overdue", "open_batch", "begin_settle"} <= set(many)
    # With more than a page of batches a sweep notes how far it has looked.
    assert many == {**few, "take_overdue": few["take_overdue"] + 1}
