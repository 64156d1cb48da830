"""A ledger and a store with one held run, for tests of parking and of standing aside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_events import TIMERS, due_times, entry_of, ledger_on, opened, pass_time, ran, run_of, run_state
from cryptography.fernet import Fernet

from b24offline.delivery import Parking
from b24offline.ledger import BatchKind, Handed
from b24offline.ledger.ledger import HELD_CHANCES
from b24offline.store import Cipher, Store

if TYPE_CHECKING:
    from pathlib import Path

    from redis import Redis

RUN = run_of(1)
DAY = TIMERS.held_backoff_seconds[-1]


class Bench:
    """A ledger and a store, with one held batch whose run has begun."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.redis = redis
        self.ledger = ledger_on(redis)
        self.store = Store(f"sqlite:///{folder / 'store.db'}", Cipher((Fernet.generate_key().decode(),)))
        self.store.create_schema()
        self.parking = Parking(self.ledger, self.store.dead_letters, TIMERS)
        self.handed = self.hold(1)

    def hold(self, record: int, deal: str = "1") -> Handed:
        entry = entry_of(record, deal, marked=True)
        (handed,) = opened(self.ledger, f"p{record}", entry, kind=BatchKind.RETRYING)
        return ran(self.ledger, handed)

    def until_due(self, run: str) -> None:
        self.later(due_times(self.redis, self.ledger)[f"run:{run}"] + 1)

    def later(self, seconds: float) -> None:
        pass_time(self.redis, self.ledger, seconds)

    def fail_once(self, handed: Handed, reason: str = "ValueError") -> None:
        assert self.ledger.back_off(handed.run, handed.attempt, reason=reason)

    def spend(self, handed: Handed) -> Handed:
        """Fails until the sweep gives up, and answers what it hands to parking."""
        for number in range(HELD_CHANCES):
            self.fail_once(handed)
            assert run_state(self.redis, self.ledger, handed.run) == "waiting"
            if number < HELD_CHANCES - 1:
                self.until_due(handed.run)
                (handed,) = self.ledger.take_overdue().runs
                ran(self.ledger, handed)
        overdue = self.ledger.take_overdue()
        assert overdue.runs == ()
        (hopeless,) = overdue.hopeless
        return hopeless

    def parked(self) -> Handed:
        hopeless = self.spend(self.handed)
        assert self.parking.park(hopeless) == "parked"
        return hopeless

    def state(self, record: int = 1) -> str | None:
        return run_state(self.redis, self.ledger, run_of(record))

    def again(self, record: int, deal: str = "1") -> Handed:
        """A newer, unmarked record of the same message arrives and begins."""
        self.later(1)
        (handed,) = opened(self.ledger, f"p{record}", entry_of(record, deal))
        return ran(self.ledger, handed)
