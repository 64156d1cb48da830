"""A ledger and a store with one retrying run, for tests of dead-lettering and of standing aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from b24offline.delivery import DeadLetterQueue
from b24offline.ledger import BatchKind, RunRef
from b24offline.ledger.ledger import MAX_HELD_ATTEMPTS
from b24offline.store import Cipher, Store
from tests.support.core_events import TIMERS, due_times, entry_of, ledger_on, opened, pass_time, ran, run_of, run_state

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

RUN = run_of(1)
DAY = TIMERS.redrive_backoff_seconds[-1]


class Bench:
    """A ledger and a store, with one retrying batch whose run has begun."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.redis = redis
        self.ledger = ledger_on(redis)
        self.store = Store(f"sqlite:///{folder / 'store.db'}", Cipher((Fernet.generate_key().decode(),)))
        self.store.create_schema()
        self.dead_letter_queue = DeadLetterQueue(self.ledger, self.store.dead_letters, TIMERS)
        self.handed = self.hold(1)

    def hold(self, record: int, deal: str = "1") -> RunRef:
        entry = entry_of(record, deal, nacked=True)
        (handed,) = opened(self.ledger, f"p{record}", entry, kind=BatchKind.RETRYING)
        return ran(self.ledger, handed)

    def until_due(self, run: str) -> None:
        self.later(due_times(self.redis, self.ledger)[f"run:{run}"] + 1)

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def fail_once(self, handed: RunRef, reason: str = "ValueError") -> None:
        assert self.ledger.back_off(handed.run, handed.attempt, reason=reason)

    def spend(self, handed: RunRef) -> RunRef:
        """Fail until the sweep gives up, and answers what it hands to dead-lettering."""
        for number in range(MAX_HELD_ATTEMPTS):
            self.fail_once(handed)
            assert run_state(self.redis, self.ledger, handed.run) == "waiting"
            if number < MAX_HELD_ATTEMPTS - 1:
                self.until_due(handed.run)
                (handed,) = self.ledger.take_overdue().runs
                ran(self.ledger, handed)
        overdue = self.ledger.take_overdue()
        assert overdue.runs == ()
        (exhausted,) = overdue.exhausted
        return exhausted

    def dead_lettered(self) -> RunRef:
        exhausted = self.spend(self.handed)
        assert self.dead_letter_queue.dead_letter(exhausted) == "dead_lettered"
        return exhausted

    def state(self, record: int = 1) -> str | None:
        return run_state(self.redis, self.ledger, run_of(record))

    def again(self, record: int, deal: str = "1") -> RunRef:
        """Return a newer, unmarked record of the same message arrives and begins."""
        self.later(1)
        (handed,) = opened(self.ledger, f"p{record}", entry_of(record, deal))
        return ran(self.ledger, handed)
