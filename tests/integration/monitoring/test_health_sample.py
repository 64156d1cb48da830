"""Ages and counts that a person must know of, from the ledger alone, and that each of them ends by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b24offline.ledger import BatchKind, Orphans, note_refused, note_unreadable
from b24offline.monitoring import HealthSample
from b24offline.monitoring.health_sample import take_sample
from tests.support.core_events import TIMERS, adoptable, entry_of, ledger_on, opened

if TYPE_CHECKING:
    from redis import Redis

    from b24offline.ledger import Ledger


def sample_of(redis: Redis, ledger: Ledger) -> HealthSample:
    return take_sample(redis, ledger)


def test_each_kind_of_batch_has_its_own_age(redis: Redis) -> None:
    ledger = ledger_on(redis)
    assert sample_of(redis, ledger) == HealthSample()
    for number, kind in enumerate(("dead_lettered", "synthetic", "retrying", "polled"), 1):
        opened(ledger, f"p{number}", entry_of(number), kind=kind)
        # What is older is opened earlier, by the ledger's clock.
        key = f"{ledger.stem}:batch:p{number}"
        redis.hset(key, "first_seen", ledger.now_ms() - (5 - number) * 1_000_000)
    sample = sample_of(redis, ledger)
    assert 2000 <= sample.oldest_retrying_seconds < 2001
    assert 1000 <= sample.oldest_seconds < 1001
    assert sample.oldest_reserved_seconds == sample.oldest_retrying_seconds


def test_a_dead_letter_that_is_redriven_is_given_its_time_again(redis: Redis) -> None:
    ledger = ledger_on(redis)
    opened(ledger, "p1", entry_of(1), kind=BatchKind.RETRYING)
    old = ledger.now_ms() - 9_000_000
    redis.hset(f"{ledger.stem}:batch:p1", mapping={"first_seen": old, "redriven": old})
    assert 9000 <= sample_of(redis, ledger).oldest_retrying_seconds < 9001
    redis.hset(f"{ledger.stem}:batch:p1", "redriven", ledger.now_ms())
    assert sample_of(redis, ledger).oldest_retrying_seconds < 1


def test_an_orphan_is_counted_until_it_is_adopted_or_gone(redis: Redis) -> None:
    ledger = ledger_on(redis)
    adoptable(redis, ledger, ["a", "b"])
    redis.hincrby(f"{ledger.stem}:orphans", "a", -1_000_000)
    sample = sample_of(redis, ledger)
    assert sample.orphans == 2
    assert 1000 <= sample.oldest_orphan_seconds < 1001
    Orphans(redis, ledger, TIMERS).forget(["a", "b"])
    assert sample_of(redis, ledger).orphans == 0


def test_unreadable_records_and_refused_events_are_kept_until_gone(redis: Redis) -> None:
    ledger = ledger_on(redis)
    note_unreadable(redis, ledger, 3)
    note_refused(redis, ledger, {"ONB", "ONA"})
    assert sample_of(redis, ledger) == HealthSample(unreadable=3, refused=("ONA", "ONB"))
    note_unreadable(redis, ledger, 0)
    note_refused(redis, ledger, ())
    assert sample_of(redis, ledger) == HealthSample()


def test_a_count_that_nobody_renews_ends_by_itself(redis: Redis) -> None:
    ledger = ledger_on(redis)
    note_unreadable(redis, ledger, 3)
    note_refused(redis, ledger, {"ONA"})
    assert 0 < redis.ttl(f"{ledger.stem}:unreadable") <= 3600
    assert redis.ttl(f"{ledger.stem}:refused") > 0
